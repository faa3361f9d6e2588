"""A creation whose reply was lost: what came of it, and that it does not come later."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from shared.domain.job import Accepted
from shared.domain.request_key import RequestKey
from shared.errors import KeyReused
from shared.store import keys
from shared.store.job_store import JobStore
from tests.integration.shared.test_job_store import new_job

KEY = RequestKey.of("key", "owner", "/v1/jobs", {"a": 1})
OTHER_BODY = RequestKey.of("key", "owner", "/v1/jobs", {"a": 2})


async def test_a_stored_job_is_found(store: JobStore) -> None:
    job = new_job()
    accepted = await store.create(job)
    assert await store.withdraw(job.id, None) == accepted
    assert await store.num_queued(job.model) == 1


@pytest.mark.parametrize("key", [None, KEY])
async def test_a_creation_that_comes_too_late_changes_nothing(
    store: JobStore, redis_client: Redis, key: RequestKey | None
) -> None:
    job = new_job(key=key)
    assert await store.withdraw(job.id, key) is None
    assert await store.withdraw(job.id, key) is None
    await store.create(job)
    assert (await store.get(job.id), await store.owner(job.id), await store.num_queued(job.model)) == (
        None,
        None,
        0,
    )
    # Only the mark is left, for a while.
    assert await redis_client.keys("baton:*") == [keys.job(job.id)]
    assert 0 < await redis_client.pttl(keys.job(job.id)) <= 60_000


async def test_an_older_job_of_the_key_is_found(store: JobStore) -> None:
    first = await store.create(new_job(key=KEY))
    again = Accepted(first.job_id, first.created_at, is_replay=True)
    assert await store.withdraw(new_job().id, KEY) == again
    with pytest.raises(KeyReused):
        await store.withdraw(new_job().id, OTHER_BODY)
