"""How many bytes an owner's jobs may take, and what is counted."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import cast

import pytest
from redis.asyncio import Redis

from shared.domain.events import Completed, Failed
from shared.domain.job import Job, NewJob
from shared.domain.request import GenerationRequest, TextPrompt
from shared.errors import ErrorInfo, StorageFull
from shared.store import keys
from shared.store.append import Append
from shared.store.job_store import NO_LIMITS, JobStore
from tests.integration.shared.test_job_store import LEASE, RESOLVED, USED, claimed, new_job, words

LARGE = 100_000


def job(owner: str = "a", size: int = LARGE) -> NewJob:
    return new_job(owner=owner, request=GenerationRequest((TextPrompt("x" * size),)))


async def counted(redis: Redis) -> dict[str, int]:
    found = await cast(Awaitable[dict[str, str]], redis.hgetall(keys.BYTES))
    return {owner: int(size) for owner, size in found.items()}


async def test_a_job_counts_until_it_is_deleted(store: JobStore, redis_client: Redis) -> None:
    for number in range(3):
        await store.create(job())
        assert LARGE * (number + 1) < (await counted(redis_client))["a"] < (LARGE + 4000) * (number + 1)
    await store.create(job("b", 10))
    found = await counted(redis_client)
    assert int(await redis_client.get(keys.ALL_BYTES) or 0) == sum(found.values()) and found["b"] < 4000
    for job_id in await store.list_ids("a", before=None, limit=9) or ():
        await store.cancel(job_id, "client")
        await store.forget(job_id)
        await store.forget(job_id)
    assert await counted(redis_client) == {"b": found["b"]}


async def test_beyond_the_owners_limit_a_job_is_refused(store: JobStore) -> None:
    limits = NO_LIMITS._replace(owner_bytes=2 * LARGE)
    first = job()
    await store.create(first, limits=limits)
    with pytest.raises(StorageFull) as refused:
        await store.create(job(), limits=limits)
    assert refused.value.of_owner
    assert (await store.create(first, limits=limits)).job_id == first.id  # a repeated call adds nothing
    await store.create(job("b"), limits=limits)
    await store.cancel(first.id, "client")
    with pytest.raises(StorageFull):
        await store.create(job(), limits=limits)  # it still takes its room
    await store.forget(first.id)
    await store.create(job(), limits=limits)


async def test_beyond_the_limit_of_all_a_job_is_refused(store: JobStore) -> None:
    limits = NO_LIMITS._replace(all_bytes=2 * LARGE)
    await store.create(job("a"), limits=limits)
    with pytest.raises(StorageFull) as refused:
        await store.create(job("b"), limits=limits)
    assert not refused.value.of_owner


async def test_output_and_result_count_from_the_end_on(store: JobStore, redis_client: Redis) -> None:
    new = job(size=10)
    await store.create(new)
    await store.register(LEASE)
    await claimed(store, LEASE, "h1")
    before = (await counted(redis_client))["a"]
    texts = words("y" * LARGE)
    await store.append([Append(new.id, "h1", (0,), (1,), USED, texts, RESOLVED)])
    assert (await counted(redis_client))["a"] == before
    await store.keep_result(new.id, "h1", b'"' + b"z" * LARGE + b'"')
    await store.append([Append(new.id, "h1", (1,), (1,), terminal=Completed())])
    found = await counted(redis_client)
    assert found["a"] > before + 2 * LARGE
    await store.forget(new.id)
    assert await counted(redis_client) == {} and await redis_client.exists(keys.ALL_BYTES) == 0


@pytest.mark.parametrize(("status", "is_kept"), [(400, False), (404, False), (500, True), (503, True)])
async def test_a_request_at_fault_is_not_kept(
    store: JobStore, redis_client: Redis, status: int, is_kept: bool
) -> None:
    new = job()
    await store.create(new)
    await store.register(LEASE)
    await claimed(store, LEASE, "h1")
    error = ErrorInfo("too long", code="context_length_exceeded", status=status)
    await store.append([Append(new.id, "h1", (0,), (0,), terminal=Failed(error))])
    found = await store.get(new.id)
    assert isinstance(found, Job) and (found.raw_request is not None) == is_kept
    assert ((await counted(redis_client))["a"] > LARGE) == is_kept
    assert found.error == error and found.view == new.view


async def test_what_was_resolved_is_not_kept_after_the_end(store: JobStore) -> None:
    new = job(size=10)
    await store.create(new)
    await store.register(LEASE)
    await claimed(store, LEASE, "h1")
    await store.append([Append(new.id, "h1", (0,), (1,), USED, words("a"), RESOLVED)])
    await store.append([Append(new.id, "h1", (1,), (1,), terminal=Completed())])
    found = await store.get(new.id)
    assert found is not None and found.raw_resolved is None and found.request == new.request


async def test_a_job_of_the_version_before_is_counted_at_its_end(
    store: JobStore, redis_client: Redis
) -> None:
    new = job()
    await store.create(new)
    await redis_client.hdel(keys.job(new.id), "bytes")
    await redis_client.delete(keys.BYTES, keys.ALL_BYTES)
    await store.cancel(new.id, "client")
    assert (await counted(redis_client))["a"] > LARGE
    await store.forget(new.id)
    assert await counted(redis_client) == {}
