"""Real worker processes: Celery's messages, signals, and what happens when things die."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from typing import Any

import pytest
from celery import Celery
from redis.asyncio import Redis

from shared.cluster.celery_app import make_celery
from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.events import Cancelled, Completed, Queued, Requeued, Resumed, Started
from shared.domain.wake_up import WakeUp
from shared.runtime.exit_codes import EX_DRAINED
from shared.store import keys
from shared.store.job_store import JobStore
from shared.store.redis_client import connect
from tests.integration.workers.harness import MODEL, Jobs, eventually
from tests.integration.workers.processes import Workers
from tests.redis_server import RedisServer
from tests.scripted_backend import CONTEXT_LENGTH, scripted_text

LONG = 400


async def queued_job(jobs: Jobs, sender: WakeUpSender, length: int = LONG, **body: Any) -> str:
    """A job whose wake-up is sent."""
    job_id = await jobs.create(length, **body)
    await sender.send([WakeUp(job_id, MODEL)])
    return job_id


async def num_unacknowledged(redis_client: Redis) -> int:
    return int(await redis_client.hlen("baton:unacked"))


async def all_acknowledged(redis_client: Redis) -> None:
    async def are() -> bool:
        return await num_unacknowledged(redis_client) == 0

    await eventually(are)


async def test_a_job_runs_and_its_wake_up_is_acknowledged(
    workers: Workers, store: JobStore, jobs: Jobs, sender: WakeUpSender, redis_client: Redis
) -> None:
    await workers.start("w1").ready(store)
    job_ids = [await queued_job(jobs, sender, 30, seed=seed) for seed in range(9)]
    for seed, job_id in enumerate(job_ids):
        await jobs.ended(job_id)
        assert await jobs.texts(job_id) == [scripted_text(seed, 0, 30)]
    await all_acknowledged(redis_client)

    async def is_told_that_they_ran_together() -> bool:
        (worker,) = await store.workers()
        return bool(worker.stats["batch_max"] > 1)

    await eventually(is_told_that_they_ran_together)  # by the next beat


async def test_a_killed_workers_job_is_continued_exactly(
    workers: Workers, store: JobStore, jobs: Jobs, sender: WakeUpSender
) -> None:
    first = workers.start("w1")
    await first.ready(store)
    job_ids = [await queued_job(jobs, sender, seed=seed, n=2) for seed in range(2)]
    for job_id in job_ids:
        await jobs.reached(job_id, 20)
    first.signal(signal.SIGKILL)
    await workers.start("w2").ready(store)
    for seed, job_id in enumerate(job_ids):
        await jobs.ended(job_id)
        assert await jobs.texts(job_id) == [scripted_text(seed, choice, LONG) for choice in range(2)]
        assert await jobs.life(job_id) == [
            Queued(),
            Started("w1"),
            Requeued("worker_died"),
            Resumed("w2", attempt=2),
            Completed(),
        ]


async def test_a_worker_restarted_under_its_name_continues_its_job(
    workers: Workers, store: JobStore, jobs: Jobs, sender: WakeUpSender
) -> None:
    first = workers.start("w1")
    await first.ready(store)
    job_id = await queued_job(jobs, sender)
    await jobs.reached(job_id, 20)
    first.signal(signal.SIGKILL)
    workers.start("w1")
    await jobs.ended(job_id, 15)
    assert await jobs.texts(job_id) == [scripted_text(1, 0, LONG)]
    assert Resumed("w1", attempt=2) in await jobs.life(job_id)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, None])
async def test_a_drained_worker_requeues_its_jobs_at_once(
    workers: Workers,
    store: JobStore,
    jobs: Jobs,
    sender: WakeUpSender,
    redis_client: Redis,
    number: signal.Signals | None,
) -> None:
    first = workers.start("w1")
    await first.ready(store)
    await workers.start("w2", slots=8).ready(store)
    job_ids = [await queued_job(jobs, sender, 300, seed=seed) for seed in range(6)]
    for job_id in job_ids:
        await jobs.reached(job_id, 5)
    on_first = [job_id for job_id in job_ids if (await jobs.get(job_id)).worker == "w1"]
    if number is None:
        assert await store.drain((await first.ready(store)).worker_instance)
    else:
        first.signal(number)
    started = time.monotonic()
    assert await first.exit_status(10) == (EX_DRAINED if number is None else 0)
    assert time.monotonic() - started < 3
    for seed, job_id in enumerate(job_ids):
        await jobs.ended(job_id, 20)
        assert await jobs.texts(job_id) == [scripted_text(seed, 0, 300)]
        if job_id in on_first:
            assert (await jobs.life(job_id))[2:] == [
                Requeued("drain"),
                Resumed("w2", attempt=2),
                Completed(),
            ]
    assert on_first
    await all_acknowledged(redis_client)


async def test_broken_connections_lose_and_double_nothing(
    workers: Workers, store: JobStore, jobs: Jobs, sender: WakeUpSender, redis_client: Redis
) -> None:
    await workers.start("w1").ready(store)
    job_ids = [await queued_job(jobs, sender, seed=seed) for seed in range(6)]
    for position in (10, 60, 150):
        await jobs.reached(job_ids[0], position)
        await redis_client.client_kill_filter(skipme=True)
    for seed, job_id in enumerate(job_ids):
        await jobs.ended(job_id, 20)
        assert await jobs.texts(job_id) == [scripted_text(seed, 0, LONG)]
        assert await jobs.life(job_id) == [Queued(), Started("w1"), Completed()]
    await all_acknowledged(redis_client)
    after = await queued_job(jobs, sender, 5)
    await jobs.ended(after)


async def test_a_restart_of_redis_holds_output_up_and_loses_none() -> None:
    server = RedisServer()
    server.start()
    workers = Workers(server.url)
    client = connect(server.url, timeout_s=5)
    store = JobStore(client)
    jobs = Jobs(store)
    try:
        await workers.start("w1").ready(store)
        job_ids = [await jobs.create(LONG, seed=seed) for seed in range(3)]
        await jobs.reached(job_ids[0], 0)
        # No wake-up is sent. The worker's reaper finds that wake-ups are missing.
        await jobs.reached(job_ids[0], 20)
        server.kill()
        await asyncio.to_thread(server.start)
        for seed, job_id in enumerate(job_ids):
            await jobs.ended(job_id, 30)
            assert await jobs.texts(job_id) == [scripted_text(seed, 0, LONG)]
    finally:
        await client.aclose()
        workers.remove()
        server.remove()


async def test_restarts_of_redis_leave_no_descriptor_open() -> None:
    server = RedisServer()
    server.start()
    workers = Workers(server.url)
    client = connect(server.url, timeout_s=5)
    sender = WakeUpSender(make_celery(server.url), client)
    store = JobStore(client)
    jobs = Jobs(store)
    worker = workers.start("w1")
    num_open: list[int] = []

    async def is_as_after_the_first() -> bool:
        num_open.append(len(os.listdir(f"/proc/{worker.pid}/fd")))
        return num_open[-1] <= num_open[0]

    try:
        await worker.ready(store)
        for _ in range(4):
            # Their wake-ups are acknowledged when they end, on the connection that broke meanwhile.
            job_ids = [await queued_job(jobs, sender, 60, seed=seed) for seed in range(3)]
            await jobs.reached(job_ids[0], 5)
            server.kill()
            await asyncio.to_thread(server.start)
            for job_id in job_ids:
                await jobs.ended(job_id, 20)
            await all_acknowledged(client)
            # No wake-up is sent, except by the worker's reaper, which shows that its broker connection works.
            await jobs.ended(await jobs.create(5, seed=3), 20)
            await eventually(is_as_after_the_first)
    finally:
        await client.aclose()
        workers.remove()
        server.remove()


async def test_cancelling_frees_the_slot_and_spares_the_backend(
    workers: Workers, store: JobStore, jobs: Jobs, sender: WakeUpSender
) -> None:
    await workers.start("w1", slots=1).ready(store)
    running = await queued_job(jobs, sender, 5000)
    await jobs.reached(running, 3)
    queued, last = await queued_job(jobs, sender), await queued_job(jobs, sender, 5)
    await store.cancel(queued, "client")
    await store.cancel(running, "client")
    cancelled = time.monotonic()
    await jobs.ended(last)
    assert time.monotonic() - cancelled < 2
    assert await jobs.life(queued) == [Queued(), Cancelled("client")]
    assert (await jobs.life(running))[2:] == [Cancelled("client")]


class Monitor:
    """What Celery's events tell of tasks, as Flower reads them."""

    def __init__(self, celery: Celery) -> None:
        self._celery = celery
        self.events: list[dict[str, Any]] = []
        self.is_ready = asyncio.Event()

    def capture(self, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        with self._celery.connection() as first:
            receiver = self._celery.events.Receiver(first, handlers={"*": self._take})
            with receiver.consumer_context() as (connection, _channel, _consumers):
                with contextlib.suppress(TimeoutError):
                    connection.drain_events(timeout=0.1)  # only this subscribes
                loop.call_soon_threadsafe(self.is_ready.set)
                while len(self.events) < limit:
                    connection.drain_events(timeout=10)

    def _take(self, event: dict[str, Any]) -> None:
        if event["type"].startswith("task-"):
            self.events.append(event)


async def test_celery_reports_the_result_of_each_task(
    workers: Workers, store: JobStore, jobs: Jobs, sender: WakeUpSender, celery: Celery
) -> None:
    await workers.start("w1").ready(store)
    monitor = Monitor(celery)
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(monitor.capture, loop, 6))
        await monitor.is_ready.wait()
        sent_at = time.monotonic()
        good = await queued_job(jobs, sender, 100)
        bad = await queued_job(jobs, sender, content="secret " * CONTEXT_LENGTH)
    seen_s = time.monotonic() - sent_at
    by_job: dict[str, list[dict[str, Any]]] = {good: [], bad: []}
    for event in monitor.events:
        uuid = event["uuid"]
        received = next(e for e in monitor.events if e["uuid"] == uuid and e["type"] == "task-received")
        by_job[good if good in received["args"] else bad].append(event)
    assert [event["type"] for event in by_job[good]] == ["task-received", "task-started", "task-succeeded"]
    assert by_job[good][0]["args"] == f"('{good}',)"
    assert by_job[good][2]["result"] == f"{good} completed"
    assert 0.3 < by_job[good][2]["runtime"] < seen_s  # a hundred steps of 5 ms
    assert [event["type"] for event in by_job[bad]] == ["task-received", "task-started", "task-failed"]
    assert by_job[bad][2]["exception"] == f"JobFailed('{bad} context_length_exceeded')"
    assert "secret" not in repr(monitor.events)


async def test_inspect_shows_the_worker_and_its_tasks(
    workers: Workers, store: JobStore, jobs: Jobs, sender: WakeUpSender, celery: Celery
) -> None:
    await workers.start("w1", slots=3).ready(store)
    job_id = await queued_job(jobs, sender, 3000)
    await jobs.reached(job_id, 3)
    node = f"w1@{os.uname().nodename}"
    inspect = celery.control.inspect(timeout=3, limit=1)
    pool = (await asyncio.to_thread(inspect.stats))[node]["pool"]
    assert (pool["worker"], pool["device"], pool["model"], pool["slots"]) == ("w1", "cpu", MODEL, 3)
    assert (pool["running"], pool["sequences"], pool["max-concurrency"]) == (1, 1, 3)
    assert {"tokens_per_second", "steps_total", "batch_mean"} <= set(pool)
    (active,) = (await asyncio.to_thread(inspect.active))[node]
    assert (active["name"], active["args"], active["kwargs"]) == (keys.WAKE_UP_TASK, [job_id], {})


async def test_revoking_with_termination_cancels_the_job(
    workers: Workers, store: JobStore, jobs: Jobs, sender: WakeUpSender, celery: Celery, redis_client: Redis
) -> None:
    await workers.start("w1", slots=2).ready(store)
    job_id = await queued_job(jobs, sender, 5000)
    await jobs.reached(job_id, 3)
    node = f"w1@{os.uname().nodename}"
    inspect = celery.control.inspect(timeout=3, limit=1)
    (active,) = (await asyncio.to_thread(inspect.active))[node]
    await asyncio.to_thread(celery.control.revoke, active["id"], terminate=True)
    job = await jobs.ended(job_id)
    assert (job.status, job.reason) == ("cancelled", "client")
    await all_acknowledged(redis_client)
    after = await queued_job(jobs, sender, 5)
    assert (await jobs.ended(after)).status == "completed"
