"""The scripts that end jobs count those that ran, in a bounded record."""

from __future__ import annotations

from redis.asyncio import Redis

from shared.domain.events import Completed
from shared.store import keys
from shared.store.append import Append
from shared.store.job_store import JobStore
from shared.store.throughput import NUM_BUCKETS
from tests.integration.shared.test_job_store import LEASE, MODEL, claimed, new_job, running


async def test_a_job_that_ran_counts_once(store: JobStore) -> None:
    job = await running(store)
    end = Append(job.id, "h1", (0,), (0,), terminal=Completed())
    for _ in range(2):
        assert [answer.kind for answer in await store.append([end])] == ["closed"]
    pace = await store.pace(MODEL)
    assert pace.finished == 1 and 0 <= pace.running_s < 60


async def test_one_that_only_waited_does_not(store: JobStore) -> None:
    job = new_job()
    await store.create(job)
    await store.cancel(job.id, "client")
    assert (await store.pace(MODEL)).finished == 0


async def test_the_run_time_is_that_since_the_start(store: JobStore, redis_client: Redis) -> None:
    job = await running(store)
    await redis_client.hincrby(keys.job(job.id), "started_ms", -5000)
    await store.cancel(job.id, "client")
    assert 5 <= (await store.pace(MODEL)).running_s < 60


async def test_the_record_is_bounded_and_passes(store: JobStore, redis_client: Redis) -> None:
    await store.register(LEASE)
    for bucket in range(50):
        await redis_client.hset(keys.throughput(MODEL), mapping={f"{bucket}:n": 1, f"{bucket}:ms": 1})
    for number in range(3):
        job = new_job()
        await store.create(job)
        await claimed(store, LEASE, f"h{number}")
        await store.cancel(job.id, "client")
    assert await redis_client.hlen(keys.throughput(MODEL)) <= 2 * NUM_BUCKETS
    assert (await store.pace(MODEL)).finished == 3
    assert 0 < await redis_client.pttl(keys.throughput(MODEL)) <= 300_000
