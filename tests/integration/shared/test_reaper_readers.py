"""The reaper's duties for readers: it ends registrations of dead replicas, and paused jobs without a reader."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from shared.cluster.reaper import REVISION_PATIENCE_S, Reaper
from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.events import Cancelled, Expired, Failed
from shared.errors import StoreUnavailable
from shared.store import keys
from shared.store.job_store import JobStore, Reader
from tests.integration.shared.clock import Clock
from tests.integration.shared.reading import get, paused, read, read_running, readers
from tests.integration.shared.test_job_store import LEASE, MODEL, stream

pytestmark = pytest.mark.usefixtures("replicas")


async def last_event(store: JobStore, job_id: str) -> object:
    return (await stream(store, job_id))[-1]


async def rounds(store: JobStore, reaper: Reaper, clock: Clock, *times: float) -> None:
    """A round of duties at each of these times. All but r1 show that they live."""
    for now in times:
        clock.now = now
        await store.beat_replica("r2", {})
        for worker in await store.workers():
            await store.beat(worker.worker_instance, steps=0, wake_ups=0, running={}, stats={})
        await reaper.try_tick()


async def test_a_replica_without_a_heartbeat_has_left_its_jobs(
    store: JobStore, reaper: Reaper, clock: Clock
) -> None:
    job_id = await read(store)
    await rounds(store, reaper, clock, 0, 10)
    assert await readers(store, job_id) == {"r1:1"}
    await rounds(store, reaper, clock, 10.1)
    assert (await get(store, job_id)).is_paused
    assert (await store.survey(limit=9)).replicas.keys() == {"r2"}
    assert +reaper.acts == {"replica": 1}


async def test_a_replica_that_beats_keeps_its_jobs(store: JobStore, reaper: Reaper, clock: Clock) -> None:
    job_id = await read(store)
    for now in range(0, 40, 8):
        await store.beat_replica("r1", {job_id: 1})
        await rounds(store, reaper, clock, now)
    assert await readers(store, job_id) == {"r1:1"}


async def test_no_replica_is_judged_while_redis_is_away(
    store: JobStore, reaper: Reaper, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await read(store)
    await rounds(store, reaper, clock, 0)
    await away(reaper, clock, 9, monkeypatch)
    await rounds(store, reaper, clock, 10.5, 20.5)
    assert await readers(store, job_id) == {"r1:1"}
    await rounds(store, reaper, clock, 20.6)
    assert (await get(store, job_id)).is_paused


async def away(reaper: Reaper, clock: Clock, now: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round that does not reach Redis."""

    async def unreachable(**_: object) -> None:
        raise StoreUnavailable("gone")

    clock.now = now
    with monkeypatch.context() as patch:
        patch.setattr(reaper._store, "survey", unreachable)
        await reaper.try_tick()


async def test_a_paused_job_is_cancelled_after_six_seconds_without_a_reader(
    store: JobStore, reaper: Reaper, clock: Clock
) -> None:
    job_id = await paused(store, reader_grace_s=0)
    await rounds(store, reaper, clock, 0, 6)
    assert (await get(store, job_id)).is_paused
    await rounds(store, reaper, clock, 6.1)
    assert await last_event(store, job_id) == Cancelled("reader_gone")
    assert +reaper.acts == {"paused": 1}


async def test_the_seconds_start_again_with_each_pause(store: JobStore, reaper: Reaper, clock: Clock) -> None:
    job_id = await paused(store, reader_grace_s=0)
    await rounds(store, reaper, clock, 0)
    await store.join(job_id, Reader("r2", 2))
    await rounds(store, reaper, clock, 4)
    await store.leave("r2", {job_id: 2})
    await rounds(store, reaper, clock, 5, 11)
    assert (await get(store, job_id)).is_paused
    await rounds(store, reaper, clock, 11.1)
    assert await last_event(store, job_id) == Cancelled("reader_gone")


async def test_after_an_outage_readers_have_half_a_minute(
    store: JobStore, reaper: Reaper, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could come back meanwhile, however long it took."""
    job_id = await paused(store, reader_grace_s=0)
    await rounds(store, reaper, clock, 0)
    await away(reaper, clock, 5, monkeypatch)
    await rounds(store, reaper, clock, 8, 38)
    assert (await get(store, job_id)).is_paused
    await rounds(store, reaper, clock, 38.1)
    assert await last_event(store, job_id) == Cancelled("reader_gone")


async def test_an_outage_long_ago_does_not_count(
    store: JobStore, reaper: Reaper, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await away(reaper, clock, 0, monkeypatch)
    job_id = await paused(store, reader_grace_s=0)
    await rounds(store, reaper, clock, 100, 106.1)
    assert await last_event(store, job_id) == Cancelled("reader_gone")


async def test_a_paused_job_keeps_its_other_deadlines(store: JobStore, reaper: Reaper, clock: Clock) -> None:
    expired = await paused(store, expires_after_s=0)
    late = await paused(store, cancel_after_s=0)
    await rounds(store, reaper, clock, 0)
    assert await last_event(store, expired) == Expired()
    assert await last_event(store, late) == Cancelled("deadline")


async def test_a_job_that_could_not_pause_is_cancelled_while_it_runs(
    store: JobStore, reaper: Reaper, clock: Clock, redis_client: Redis
) -> None:
    job_id = await read_running(store, reader_grace_s=0)
    await redis_client.hset(keys.job(job_id), "resumable", "0")
    await store.leave("r1", {job_id: 1})
    clock.now = 0
    await store.beat("w1.a", steps=0, wake_ups=0, running={job_id: "h1"}, stats={})
    await reaper.tick()
    assert (await get(store, job_id)).status == "in_progress"
    clock.now = 6.1
    await store.beat("w1.a", steps=0, wake_ups=0, running={job_id: "h1"}, stats={})
    await reaper.tick()
    assert await last_event(store, job_id) == Cancelled("reader_gone")


async def test_no_wake_ups_are_sent_for_paused_jobs(
    store: JobStore, reaper: Reaper, clock: Clock, sender: WakeUpSender
) -> None:
    for _ in range(33):
        await paused(store)
    await store.register(LEASE)
    await rounds(store, reaper, clock, 0, 2.1, 4.2)
    assert await sender.num_waiting(MODEL) == 0


async def test_a_wake_up_that_a_join_did_not_come_to_send_is_sent(
    store: JobStore, reaper: Reaper, clock: Clock, sender: WakeUpSender
) -> None:
    job_id = await paused(store)
    await store.register(LEASE)
    await rounds(store, reaper, clock, 0)
    assert (await store.join(job_id, Reader("r2", 1))).wake_up is not None
    await rounds(store, reaper, clock, 1, 3.1)
    assert await sender.num_waiting(MODEL) == 1


async def test_a_job_that_no_worker_can_read_fails_after_a_minute(
    store: JobStore, reaper: Reaper, clock: Clock, redis_client: Redis
) -> None:
    """The minute begins when the last worker that can has left."""
    job_id = await read(store, on_disconnect="continue")
    await redis_client.hset(keys.job(job_id), "needs", 2)
    await store.register(LEASE)
    await redis_client.hset(keys.worker("w1.a"), "reads", 2)
    await rounds(store, reaper, clock, 0, 100)
    await redis_client.hset(keys.worker("w1.a"), "reads", 1)
    await rounds(store, reaper, clock, 101, 130, 101 + REVISION_PATIENCE_S)
    assert (await get(store, job_id)).status == "queued"
    await rounds(store, reaper, clock, 101.1 + REVISION_PATIENCE_S)
    event = await last_event(store, job_id)
    assert isinstance(event, Failed) and event.error.code == "worker_too_old"


async def test_without_any_worker_a_job_waits_for_one_that_can_read_it(
    store: JobStore, reaper: Reaper, clock: Clock, redis_client: Redis
) -> None:
    job_id = await read(store, on_disconnect="continue")
    await redis_client.hset(keys.job(job_id), "needs", 2)
    await rounds(store, reaper, clock, 0, 100, 200)
    assert (await get(store, job_id)).status == "queued"
