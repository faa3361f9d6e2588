"""Heartbeats of API replicas find what went wrong between them and the store; a dead replica has left."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from shared.domain.job import Job
from shared.store import keys
from shared.store.job_store import JobStore, ReplicaBeat
from tests.integration.shared.reading import R1, R2, paused, read

pytestmark = pytest.mark.usefixtures("replicas")


async def test_a_replica_without_a_lease_is_unknown(store: JobStore) -> None:
    assert await store.beat_replica("r3", {"job_x": 1}) is None
    assert not await store._redis.exists(keys.replica("r3"))


async def test_each_one_changes_what_the_reaper_looks_at(store: JobStore) -> None:
    before = (await store.survey(limit=9)).replicas
    await store.beat_replica("r1", {})
    after = (await store.survey(limit=9)).replicas
    assert after["r1"] != before["r1"] and after["r2"] == before["r2"]


async def test_it_finds_what_store_and_replica_do_not_agree_on(store: JobStore) -> None:
    good, stray, unknown, renumbered, over, stopped = [await read(store) for _ in range(6)]
    await store.leave("r1", {unknown: 1, stopped: 1})
    await store.cancel(over, "client")
    followed = {good: 1, unknown: 1, renumbered: 2, over: 1, "job_none": 1, stopped: 1}
    for _ in range(2):
        answer = await store.beat_replica("r1", followed)
        assert answer is not None
        assert (answer.strays, set(answer.missing)) == ({stray: 1}, {unknown, renumbered, stopped})


async def test_a_paused_job_that_is_read_is_joined_again(store: JobStore, redis_client: Redis) -> None:
    """It is registered, but it should not be paused then, so the heartbeat names it."""
    job_id = await paused(store)
    await store.join(job_id, R1)
    await redis_client.hset(keys.job(job_id), "paused_ms", "1")
    assert await store.beat_replica("r1", {job_id: 1}) == ReplicaBeat({}, [job_id])
    assert (await store.join(job_id, R1)).status == "resumed"


async def test_a_dead_replica_leaves_all_of_its_jobs(store: JobStore) -> None:
    """However many there are: each call of the script ends only a limited number of registrations."""
    jobs = [await read(store) for _ in range(450)]
    await store.join(jobs[0], R2)
    for _ in range(2):
        await store.release_replica("r1")
    found = await store.get_many(jobs)
    assert [job.is_paused for job in found if isinstance(job, Job)] == [False] + [True] * 449
    assert (await store.survey(limit=9)).replicas.keys() == {"r2"}
    assert not await store._redis.exists(keys.replica("r1"), keys.replica_jobs("r1"))


async def test_one_that_comes_back_registers_and_joins(store: JobStore) -> None:
    job_id = await read(store)
    await store.release_replica("r1")
    assert await store.beat_replica("r1", {job_id: 1}) is None
    await store.register_replica("r1")
    assert await store.beat_replica("r1", {job_id: 1}) == ReplicaBeat({}, [job_id])
    assert (await store.join(job_id, R1)).status == "resumed"
    assert await store.beat_replica("r1", {job_id: 1}) == ReplicaBeat({}, [])


async def test_registering_again_keeps_what_is_read(store: JobStore) -> None:
    job_id = await read(store)
    await store.register_replica("r1")
    assert await store.beat_replica("r1", {job_id: 1}) == ReplicaBeat({}, [])
