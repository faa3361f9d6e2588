"""A worker stores a job's complete output before it ends the job. No other process does."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from shared.domain.events import (
    Completed,
)
from shared.domain.result import Result
from shared.store import keys
from shared.store.append import Append
from shared.store.job_store import JobStore
from tests.integration.shared.test_job_store import (
    LEASE,
    claimed,
    running,
)

RESULT = Result.empty(1).encode()


async def test_a_stored_result_is_read_once_the_job_is_over_and_forgotten_with_it(
    store: JobStore, redis_client: Redis
) -> None:
    job = await running(store)
    for _ in range(2):
        assert await store.keep_result(job.id, "h1", RESULT) is True
    assert (await store.get_with_result(job.id))[1] is None  # type: ignore[index]
    await store.append([Append(job.id, "h1", (0,), (0,), terminal=Completed())])
    assert (await store.get_with_result(job.id))[1] == Result.empty(1)  # type: ignore[index]
    await store.forget(job.id)
    assert await redis_client.keys(f"{keys.job(job.id)}*") == []


@pytest.mark.parametrize("end", ["requeued", "taken", "over", "forgotten"])
async def test_no_other_claim_stores_a_result(store: JobStore, redis_client: Redis, end: str) -> None:
    job = await running(store)
    if end in ("requeued", "taken"):
        await store.requeue(job.id, "h1", "drain")
    if end == "taken":
        await claimed(store, LEASE, "h2")
    if end in ("over", "forgotten"):
        await store.cancel(job.id, "client")
    if end == "forgotten":
        await store.forget(job.id)
    assert await store.keep_result(job.id, "h1", RESULT) is False
    assert not await redis_client.exists(keys.job_result(job.id))


@pytest.mark.parametrize("end", ["cancelled", "claimed again"])
async def test_the_result_of_a_claim_that_did_not_end_the_job_is_dropped(
    store: JobStore, redis_client: Redis, end: str
) -> None:
    """It may hold more than was ever released."""
    job = await running(store)
    await store.keep_result(job.id, "h1", RESULT)
    if end == "cancelled":
        await store.cancel(job.id, "client")
    else:
        await store.requeue(job.id, "h1", "worker_died", died=True)
        await claimed(store, LEASE, "h2")
    assert not await redis_client.exists(keys.job_result(job.id))
