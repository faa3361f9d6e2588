"""A cluster stats counts what is in Redis, by model and priority, at a cost that does not depend on the jobs."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from shared.cluster.cluster_stats import ClusterStatsCache, read_cluster_stats
from shared.domain.job import Priority
from shared.domain.lease import Lease
from shared.domain.worker_report import STEPS, WorkerReport
from shared.store import keys
from shared.store.job_store import JobStore, Reader
from tests.integration.shared.test_job_store import new_job

LEASE = Lease("w.a", "w", "m", "host", 1, "cpu", 4, "rev")
REPORT = WorkerReport({STEPS.name: {"": 3.0}})


async def add(store: JobStore, priority: Priority, model: str = "m") -> None:
    await store.create(new_job(model=model, priority=priority))


async def test_waiting_jobs_are_counted_by_model_and_priority(redis_client: Redis, store: JobStore) -> None:
    for priority in ("high", "normal", "normal", "low"):
        await add(store, priority)
    await add(store, "low", model="other")
    await asyncio.sleep(0.02)
    cluster_stats = await read_cluster_stats(redis_client, store, ["m", "other", "none"])
    counted = {(queue.model, queue.priority): queue for queue in cluster_stats.queues}
    assert {place: queue.waiting for place, queue in counted.items() if queue.waiting} == {
        ("m", "high"): 1,
        ("m", "normal"): 2,
        ("m", "low"): 1,
        ("other", "low"): 1,
    }
    assert 0.02 <= counted["m", "low"].oldest_s < 30
    assert counted["none", "low"].oldest_s == 0
    assert cluster_stats.open_jobs == 5


async def test_a_paused_job_is_open_and_does_not_wait(redis_client: Redis, store: JobStore) -> None:
    job = new_job(model="m", on_disconnect="pause")
    await store.register_replica("r1")
    await store.create(job, reader=Reader("r1", 1))
    await store.leave("r1", {job.id: 1})
    cluster_stats = await read_cluster_stats(redis_client, store, ["m"])
    assert [queue.waiting for queue in cluster_stats.queues] == [0, 0, 0]
    assert cluster_stats.open_jobs == 1


async def test_a_report_travels_with_the_beat_and_leaves_with_the_lease(
    redis_client: Redis, store: JobStore
) -> None:
    await store.register(LEASE)
    await store.beat("w.a", steps=1, wake_ups=0, running={}, stats={}, report=REPORT)
    cluster_stats = await read_cluster_stats(redis_client, store, [])
    assert (cluster_stats.reports, len(cluster_stats.workers)) == ({"w.a": REPORT}, 1)
    assert 0 < await redis_client.ttl(keys.worker_report("w.a")) <= 10
    await store.release("w.a", "drain", died=False)
    assert await redis_client.exists(keys.worker_report("w.a")) == 0


async def test_a_report_that_cannot_be_read_hides_no_other(redis_client: Redis, store: JobStore) -> None:
    await store.register(LEASE)
    await redis_client.set(keys.worker_report("w.a"), "rubbish")
    cluster_stats = await read_cluster_stats(redis_client, store, [])
    assert (cluster_stats.reports, len(cluster_stats.workers)) == ({}, 1)


async def test_many_that_ask_at_once_share_one_count(redis_client: Redis, store: JobStore) -> None:
    now = 0.0
    asked = 0

    async def models() -> list[str]:
        nonlocal asked
        asked += 1
        return ["m"]

    taker = ClusterStatsCache(redis_client, store, models, clock=lambda: now)
    first = await asyncio.gather(*(taker.take() for _ in range(20)))
    assert asked == 1 and all(cluster_stats is first[0] for cluster_stats in first)
    now = 1.5
    assert await taker.take() is not first[0]
