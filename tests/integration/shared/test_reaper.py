"""The reaper against real Redis, with a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from shared.cluster.celery_app import make_celery
from shared.cluster.reaper import Reaper
from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.events import Cancelled, Expired, Failed, Requeued
from shared.domain.job import Job
from shared.domain.wake_up import WakeUp
from shared.errors import StoreUnavailable
from shared.store import keys
from shared.store.append import Append
from shared.store.job_store import JobStore
from shared.store.queue_score import PROMOTED_AFTER_S
from shared.store.redis_client import connect
from tests.integration.shared.clock import Clock
from tests.integration.shared.test_job_store import LEASE, MODEL, OTHER, RESOLVED, new_job
from tests.redis_server import RedisServer


async def create(store: JobStore, **changes: float | str) -> str:
    job = new_job(**changes)
    await store.create(job)
    return job.id


async def last_event(store: JobStore, job_id: str) -> object:
    return (await store.entries(job_id))[-1].event


async def beat(store: JobStore, running: Iterable[tuple[str, str]] = (), wake_ups: int = 0) -> None:
    await store.beat("w1.a", steps=0, wake_ups=wake_ups, running=dict(running), stats={})


async def test_a_worker_without_a_sign_of_life_loses_its_jobs(
    store: JobStore, reaper: Reaper, sender: WakeUpSender, clock: Clock
) -> None:
    job_id = await create(store)
    await store.register(LEASE)
    await store.claim(LEASE, "h")
    await reaper.tick()
    clock.now = 3.1
    await reaper.tick()
    assert await last_event(store, job_id) == Requeued("worker_died")
    assert await store.workers() == []
    assert await sender.num_waiting(MODEL) == 1


async def test_what_it_did_is_counted(store: JobStore, reaper: Reaper, clock: Clock) -> None:
    await create(store, expires_after_s=0.001)
    await create(store)
    await store.register(LEASE)
    await asyncio.sleep(0.01)
    await reaper.tick()
    assert +reaper.acts == {"expires": 1}
    clock.now = 3.1
    await reaper.tick()
    assert +reaper.acts == {"expires": 1, "buried": 1, "resent": 1}


async def test_a_worker_that_beats_keeps_them(store: JobStore, reaper: Reaper, clock: Clock) -> None:
    job_id = await create(store)
    await store.register(LEASE)
    claimed = await store.claim(LEASE, "h")
    for now in range(0, 10, 2):
        clock.now = now
        await beat(store, [(job_id, "h")])
        await reaper.tick()
    assert isinstance(claimed, Job)
    assert len(await store.workers()) == 1


async def test_lost_wake_ups_are_sent_again_after_a_while(
    store: JobStore, reaper: Reaper, sender: WakeUpSender, clock: Clock
) -> None:
    for _ in range(3):
        await create(store)
    await store.register(LEASE)
    await sender.send([WakeUp("job_x", MODEL)])
    await reaper.tick()
    assert await sender.num_waiting(MODEL) == 1  # they may be on their way
    clock.now = 2.1
    await beat(store)
    await reaper.tick()
    assert await sender.num_waiting(MODEL) == 3
    clock.now = 4.3
    await beat(store)
    await reaper.tick()
    assert await sender.num_waiting(MODEL) == 3


async def test_a_wake_up_that_a_worker_holds_is_not_lost(
    store: JobStore, reaper: Reaper, sender: WakeUpSender, clock: Clock
) -> None:
    await create(store)
    await store.register(LEASE)
    for now in (0.0, 2.1, 4.2):
        clock.now = now
        await beat(store, wake_ups=1)
        await reaper.tick()
    assert await sender.num_waiting(MODEL) == 0


async def test_deadlines_are_kept(store: JobStore, reaper: Reaper) -> None:
    expired = await create(store, expires_after_s=0)
    late = await create(store, cancel_after_s=0)
    await reaper.tick()
    assert await last_event(store, expired) == Expired()
    assert await last_event(store, late) == Cancelled("deadline")


async def test_what_is_kept_long_enough_is_forgotten(
    store: JobStore, reaper: Reaper, redis_client: Redis
) -> None:
    job_id = await create(store, retention_s=0)
    await store.cancel(job_id, "client")
    await reaper.tick()
    assert await redis_client.keys(f"{keys.job(job_id)}*") == []


class Upgraded:
    """A job that was begun by a worker of one revision, which was followed by one of another."""

    def __init__(self, store: JobStore, clock: Clock, reaper: Reaper) -> None:
        self._store = store
        self._clock = clock
        self._reaper = reaper
        self.new = replace(OTHER, model_revision="new")
        self.job_id = ""

    async def begin(self) -> None:
        self.job_id = await create(self._store)
        await self._store.register(LEASE)
        await self._store.claim(LEASE, "h")
        await self._store.append([Append(self.job_id, "h", (0,), (0,), resolved=RESOLVED)])
        await self._store.register(self.new)
        await self.round(0)
        await self._store.release("w1.a", "drain", died=False)

    async def round(self, now: float) -> str:
        """A round of duties at that time; what became of the job."""
        self._clock.now = now
        for worker in await self._store.workers():
            await self._store.beat(worker.worker_instance, steps=0, wake_ups=0, running={}, stats={})
        await self._reaper.try_tick()
        job = await self._store.get(self.job_id)
        assert job is not None
        return job.status


@pytest.fixture
def upgraded(store: JobStore, clock: Clock, reaper: Reaper) -> Upgraded:
    return Upgraded(store, clock, reaper)


async def test_a_job_whose_revision_is_served_no_more_fails_after_a_minute(
    store: JobStore, reaper: Reaper, upgraded: Upgraded
) -> None:
    await upgraded.begin()
    # The minute begins when its last worker has left, however long the other one has been there.
    assert [await upgraded.round(now) for now in (100, 130, 160)] == ["queued"] * 3
    assert await upgraded.round(160.1) == "failed"
    event = await last_event(store, upgraded.job_id)
    assert isinstance(event, Failed) and event.error.code == "model_changed"
    assert reaper.acts["outdated"] == 1
    assert await upgraded.round(300) == "failed"
    assert await last_event(store, upgraded.job_id) == event


async def test_the_wait_starts_again_when_a_worker_of_the_revision_returns(
    store: JobStore, upgraded: Upgraded
) -> None:
    await upgraded.begin()
    assert [await upgraded.round(now) for now in (100, 159)] == ["queued"] * 2
    await store.register(LEASE)
    assert await upgraded.round(159.5) == "queued"
    await store.release("w1.a", "drain", died=False)
    assert [await upgraded.round(now) for now in (161, 200, 221)] == ["queued"] * 3
    assert await upgraded.round(221.1) == "failed"


async def test_a_job_waits_for_any_worker_while_there_is_none(store: JobStore, upgraded: Upgraded) -> None:
    await upgraded.begin()
    await store.release("w2.b", "drain", died=False)
    assert [await upgraded.round(now) for now in (100, 200, 300)] == ["queued"] * 3
    await store.register(upgraded.new)
    assert [await upgraded.round(now) for now in (301, 361)] == ["queued"] * 2
    assert await upgraded.round(361.1) == "failed"


async def test_the_minute_starts_again_after_an_outage_of_redis(
    store: JobStore, upgraded: Upgraded, monkeypatch: pytest.MonkeyPatch
) -> None:
    await upgraded.begin()
    assert await upgraded.round(100) == "queued"
    with monkeypatch.context() as patch:
        patch.setattr(store, "survey", _unreachable)
        await upgraded.round(150)
    assert [await upgraded.round(now) for now in (161, 221)] == ["queued"] * 2
    assert await upgraded.round(221.1) == "failed"


@pytest.fixture
async def own_redis() -> AsyncIterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.remove()


async def test_a_reaper_that_cannot_write_judges_no_worker(own_redis: RedisServer, clock: Clock) -> None:
    """Nor can the workers: their silence begins to count when the disk has room again."""
    client, celery = connect(own_redis.url, timeout_s=5), make_celery(own_redis.url)
    store, sender = JobStore(client), WakeUpSender(celery, client)
    reaper = Reaper(store, sender, lease_s=3, clock=clock)
    await store.register(LEASE)
    await reaper.tick()
    own_redis.fill_disk()
    await until(lambda: create(store), is_refused=True)
    clock.now = 2
    await reaper.try_tick()
    own_redis.free_disk()
    await until(lambda: create(store), is_refused=False)
    clock.now = 3.1
    await reaper.try_tick()
    assert len(await store.workers()) == 1
    clock.now = 6.2
    await reaper.try_tick()
    assert await store.workers() == []
    sender.close()
    celery.close()
    await client.aclose()


async def until(act: Callable[[], Awaitable[object]], *, is_refused: bool) -> None:
    """Repeat it until Redis takes or refuses it, as is wanted; at most ten seconds."""
    async with asyncio.timeout(10):
        while True:
            try:
                await act()
                if not is_refused:
                    return
            except StoreUnavailable:
                if is_refused:
                    return
            await asyncio.sleep(0.02)


async def _unreachable(**_: object) -> None:
    raise StoreUnavailable("gone")


async def test_one_that_waited_for_an_hour_goes_on_in_the_next_class(
    store: JobStore, reaper: Reaper, redis_client: Redis
) -> None:
    await store.register(LEASE)
    low, normal = await create(store, priority="low"), await create(store, priority="normal")
    hour_us = PROMOTED_AFTER_S["low"] * 1_000_000
    await redis_client.zincrby(keys.queued(MODEL), -hour_us, low)
    await reaper.tick()
    assert await store.queue_positions([(MODEL, low), (MODEL, normal)]) == [0, 1]
    assert reaper.acts["promoted"] == 1


async def test_a_reaper_that_cannot_reach_redis_judges_no_worker(
    store: JobStore, sender: WakeUpSender, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.register(LEASE)
    reaper = Reaper(store, sender, lease_s=3, clock=clock)
    await reaper.tick()
    with monkeypatch.context() as patch:
        patch.setattr(store, "survey", _unreachable)
        clock.now = 60
        await reaper.try_tick()
    await reaper.try_tick()
    assert len(await store.workers()) == 1
    clock.now = 64
    await reaper.try_tick()
    assert await store.workers() == []
