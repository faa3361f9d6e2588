"""With Redis's memory full, jobs that are there are kept and ended, and nothing new is written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis.asyncio import Redis

from shared.domain.job import Job
from shared.errors import StoreUnavailable
from shared.store import keys
from shared.store.append import Append
from shared.store.job_store import JobStore, Reader
from tests.integration.shared.test_job_store import (
    LEASE,
    MODEL,
    RESOLVED,
    USED,
    new_job,
    running,
    words,
)

Fill = Callable[[], Awaitable[None]]


@pytest.fixture
async def full(redis_client: Redis) -> AsyncIterator[Fill]:
    """Fills Redis's memory when it is called, until the test is over."""

    async def fill() -> None:
        await redis_client.config_set("maxmemory", 1)

    yield fill
    await redis_client.config_set("maxmemory", 0)


KEPT_WHEN_FULL: dict[str, Callable[[JobStore, str], Awaitable[object]]] = {
    "beat": lambda store, job_id: store.beat("w1.a", steps=1, wake_ups=0, running={job_id: "h1"}, stats={}),
    "join": lambda store, job_id: store.join(job_id, Reader("r1", 2)),
    "leave": lambda store, job_id: store.leave("r1", {job_id: 1}),
    "beat_replica": lambda store, _: store.beat_replica("r1", {}),
    "release_replica": lambda store, _: store.release_replica("r1"),
    "cancel": lambda store, job_id: store.cancel(job_id, "client"),
    "requeue": lambda store, job_id: store.requeue(job_id, "h1", "drain"),
    "release": lambda store, _: store.release("w1.a", "drain", died=False),
    "audit": lambda store, job_id: store.audit([job_id]),
    "promote": lambda store, _: store.promote([MODEL], after_s={"low": 0, "normal": 0}),
    "drain": lambda store, _: store.drain("w1.a"),
    "check": lambda store, job_id: store.append([Append(job_id, "h1", (0,), (0,))]),
}


@pytest.mark.parametrize("name", KEPT_WHEN_FULL)
async def test_with_the_memory_full_what_is_there_is_kept_and_ended(
    store: JobStore, redis_client: Redis, full: Fill, name: str
) -> None:
    job = await running(store, on_disconnect="pause")
    await store.create(new_job(priority="low"))
    await store.register_replica("r1")
    await store.join(job.id, Reader("r1", 1))
    if name == "audit":
        await redis_client.delete(keys.worker_jobs("w1.a"))
    await full()
    assert await KEPT_WHEN_FULL[name](store, job.id) is not False
    assert await store.get(job.id) is not None


async def test_with_the_memory_full_nothing_new_is_written(store: JobStore, full: Fill) -> None:
    job, waiting, refused = await running(store), new_job(), new_job()
    await store.create(waiting)
    before = await store.entries(job.id)
    await full()
    with pytest.raises(StoreUnavailable):
        await store.create(refused)
    with pytest.raises(StoreUnavailable):
        await store.claim(LEASE, "h2")
    with pytest.raises(StoreUnavailable):
        await store.append([Append(job.id, "h1", (0,), (1,), USED, words("a"), RESOLVED)])
    found = await store.get_many([job.id, waiting.id, refused.id])
    assert [isinstance(one, Job) and one.status for one in found] == ["in_progress", "queued", False]
    assert await store.entries(job.id) == before


async def test_what_is_over_makes_room(store: JobStore, redis_client: Redis, full: Fill) -> None:
    job = await running(store)
    await full()
    await store.cancel(job.id, "client")
    await store.forget(job.id)
    assert await redis_client.keys(f"{keys.job(job.id)}*") == []
