"""Requests that are repeated: the key and the job are written by one script, and forgotten together."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from shared.domain.job import Accepted
from shared.domain.request_key import RequestKey
from shared.errors import KeyReused, StoreUnavailable
from shared.store import keys
from shared.store.job_store import JobStore
from tests.integration.shared.test_job_store import new_job
from tests.integration.workers.lossy_store import LossyStore

KEY = RequestKey.of("key", "owner", "/v1/jobs", {"a": 1})
OTHER_BODY = RequestKey.of("key", "owner", "/v1/jobs", {"a": 2})


async def test_the_same_key_returns_the_same_job(store: JobStore) -> None:
    first = await store.create(new_job(key=KEY))
    again = await store.create(new_job(key=KEY))
    assert again == Accepted(first.job_id, first.created_at, is_replay=True)
    assert await store.list_ids("owner", before=None, limit=9) == [first.job_id]
    assert await store.num_queued("org/model") == 1


async def test_ten_at_once_make_one_job(store: JobStore) -> None:
    answers = await asyncio.gather(*[store.create(new_job(key=KEY)) for _ in range(10)])
    assert len({answer.job_id for answer in answers}) == 1
    assert sum(not answer.is_replay for answer in answers) == 1


async def test_a_lost_reply_is_no_replay(store: JobStore) -> None:
    lossy, job = LossyStore.of(store), new_job(key=KEY)
    lossy.losses["create"] = 1
    with pytest.raises(StoreUnavailable):
        await lossy.create(job)
    assert (await lossy.create(job)).is_replay is False
    assert (await lossy.create(new_job(key=KEY))) == Accepted(
        job.id, (await store.create(job)).created_at, is_replay=True
    )


async def test_another_body_is_refused(store: JobStore) -> None:
    await store.create(new_job(key=KEY))
    with pytest.raises(KeyReused):
        await store.create(new_job(key=OTHER_BODY))
    assert await store.num_queued("org/model") == 1


async def test_owners_do_not_meet(store: JobStore) -> None:
    first = await store.create(new_job(key=KEY))
    foreign = new_job(owner="b", key=RequestKey.of("key", "b", "/v1/jobs", {"a": 1}))
    assert (await store.create(foreign)).job_id == foreign.id != first.job_id


async def test_binding_to_a_job_that_is_there(store: JobStore) -> None:
    job = new_job()
    await store.create(job)
    assert [await store.bind(KEY, job.id) for _ in range(2)] == [False, True]
    with pytest.raises(KeyReused):
        await store.bind(OTHER_BODY, job.id)
    with pytest.raises(KeyReused):
        await store.create(new_job(key=OTHER_BODY))


async def test_a_job_keeps_a_bounded_number_of_keys(store: JobStore, redis_client: Redis) -> None:
    job = new_job(key=KEY)
    await store.create(job)
    for number in range(40):
        await store.bind(RequestKey.of(str(number), "owner", "/v1/jobs/x/cancel", None), job.id)
    assert len(await redis_client.keys(keys.idempotency("*"))) == 16
    await store.cancel(job.id, "client")
    await store.forget(job.id)
    assert await redis_client.keys(keys.idempotency("*")) == []


async def test_a_job_given_up_frees_its_key(store: JobStore) -> None:
    first = new_job(key=KEY)
    await store.create(first)
    assert await store.give_up(first.id, "deadline") == "cancelled"
    second = new_job(key=KEY)
    assert await store.create(second) == Accepted(
        second.id, (await store.create(second)).created_at, is_replay=False
    )
    assert await store.give_up(first.id, "deadline") == "cancelled"
    assert (await store.create(new_job(key=KEY))).job_id == second.id


async def test_a_key_whose_job_is_gone_is_free(store: JobStore, redis_client: Redis) -> None:
    first, second = new_job(key=KEY), new_job(key=OTHER_BODY)
    await store.create(first)
    await redis_client.delete(keys.job(first.id))
    assert (await store.create(second)).job_id == second.id


async def test_nothing_of_the_request_is_stored_in_a_key(store: JobStore, redis_client: Redis) -> None:
    secret = RequestKey.of("sesame", "owner", "/v1/jobs", {"prompt": "open"})
    await store.create(replace(new_job(), key=secret))
    name = (await redis_client.keys(keys.idempotency("*")))[0]
    stored = str(name) + str(await redis_client.get(name))
    assert "sesame" not in stored and "open" not in stored
