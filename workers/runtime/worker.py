"""Worker: claims jobs, has them generated, writes what comes out. On one asyncio loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from shared.cluster.reaper import Reaper
from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.lease import Lease
from shared.domain.wake_up import WakeUp
from shared.domain.worker_report import WorkerReport
from shared.errors import StoreUnavailable
from shared.runtime.failpoint import failpoint
from shared.store.job_store import JobStore
from workers.backends.backend import Backend, StepOutput
from workers.celery_app.pending_task import PendingTask
from workers.runtime.backoff import Backoff
from workers.runtime.claimer import BEGINNING, Claimer
from workers.runtime.heartbeat import STEP_TIMEOUT_S, Heartbeat
from workers.runtime.lease import LeaseKeeper
from workers.runtime.preemptor import Preemptor
from workers.runtime.publisher import Publisher
from workers.runtime.rate_meter import RateMeter
from workers.runtime.running_job import RunningJob, RunningJobs
from workers.runtime.task_set import TaskSet
from workers.runtime.telemetry import Telemetry
from workers.runtime.watchdog import Watchdog

logger = logging.getLogger(__name__)

#: A drain's parts have this long each: the last step, the last output, the jobs.
_DRAIN_PART_S = 0.6


class Worker:
    """All of it belongs to one event loop. `run` until `drain`, which leaves in order.

    `on_death` is called, from any thread, when a part of it ends unexpectedly: then none of it may go on.
    `on_drain` is called with each beat once the store asks it to leave: then somebody has to call `drain`.
    """

    def __init__(
        self,
        store: JobStore,
        sender: WakeUpSender,
        lease: Lease,
        backend: Backend,
        *,
        lease_s: float,
        on_death: Callable[[BaseException], None],
        on_drain: Callable[[], None],
        step_timeout_s: float = STEP_TIMEOUT_S,
    ) -> None:
        self._store = store
        self._sender = sender
        self._backend = backend
        self._task_set = TaskSet(on_death)
        self._resolver = ThreadPoolExecutor(1, thread_name_prefix="resolver")
        self._preparer = ThreadPoolExecutor(1, thread_name_prefix="preparer")
        self._telemetry = Telemetry()
        self._jobs = RunningJobs(backend, self._telemetry, slots=lease.slots)
        self._lease = LeaseKeeper(store, lease, self._jobs)
        self._claimer = Claimer(
            store,
            self._lease,
            self._jobs,
            backend,
            self._resolver,
            self._preparer,
            self._task_set,
            on_begun=lambda: self._publisher.wake(),
        )
        self._publisher = Publisher(
            store, self._lease, self._jobs, self._telemetry, on_free_slot=self._claimer.wake
        )
        self._heartbeat = Heartbeat(
            store,
            self._lease,
            self._jobs,
            self._claimer,
            backend,
            sender,
            stats=self._measured,
            report=self._report,
            on_drain=on_drain,
            step_timeout_s=step_timeout_s,
        )
        self._watchdog = Watchdog(store, sender, self._jobs, self._claimer, model=lease.model)
        self._reaper = Reaper(store, sender, lease_s=lease_s)
        self._meter = RateMeter()
        self._on_death = on_death
        self._is_running = asyncio.Event()
        self._is_drained = asyncio.Event()

    async def run(self) -> None:
        """Work until drained."""
        loop = asyncio.get_running_loop()

        def on_outputs(outputs: Sequence[StepOutput]) -> None:
            # A step that outlasts the drain comes too late: its tokens are drawn again elsewhere.
            if not self._is_drained.is_set():
                loop.call_soon_threadsafe(self._publisher.take, outputs)

        self._backend.start(on_outputs, self._on_death)
        begin = self._task_set.spawn(self._lease.begin(), name="lease")
        self._is_running.set()
        await asyncio.wait([begin])
        if not begin.cancelled():
            logger.info("ready as %s", self._lease.worker_instance)
            self._task_set.spawn(self._claimer.run(), name="claimer")
            self._task_set.spawn(Preemptor(self._jobs, self._claimer).run(), name="parker")
            self._task_set.spawn(self._publisher.run(), name="publisher")
            self._task_set.spawn(self._watchdog.run(), name="watchdog")
            self._task_set.spawn(self._heartbeat.run(), name="heartbeat")
            self._task_set.spawn(self._reaper.run(), name="reaper")
        await self._is_drained.wait()

    # What Celery asks for; in the loop's thread

    def hold(self, wake_up: PendingTask) -> None:
        """Celery delivered a wake_up."""
        self._claimer.hold(wake_up)

    async def terminate(self, wake_up: PendingTask) -> None:
        """A person ended a wake_up's task: a waiting wake-up is dropped, a running job is cancelled."""
        if self._claimer.withdraw(wake_up):
            wake_up.accept()  # a task that has not begun is announced as revoked only then
            wake_up.end("revoked")
        elif running := self._jobs.with_wake_up(wake_up):
            await self._cancel(running)

    async def _cancel(self, running: RunningJob) -> None:
        backoff = Backoff()
        while self._jobs.get(running.claim_token) is running:
            try:
                await self._store.cancel(running.job.id, "client")
                return self._publisher.wake(running)
            except StoreUnavailable as error:
                logger.warning("%s not cancelled: %s", running.job.id, error)
                await backoff.sleep()

    @property
    def num_usable_wake_ups(self) -> int:
        """One for each running job, and one for each slot that is free. May be read from any thread."""
        return len(self._jobs) + max(0, self._jobs.num_free_slots)

    def stats(self) -> dict[str, Any]:
        """Counters and gauges. May be called from any thread."""
        stats = self._backend.stats
        return {
            "slots": self._lease.lease.slots,
            "running": len(self._jobs),
            "sequences": stats.running,
            "claims_total": self._claimer.num_claims,
            "steps_total": stats.steps,
            "tokens_total": stats.tokens,
            "tokens_per_second": round(self._meter.rate, 1),
            "batch_mean": round(stats.batch_mean, 2),
            "batch_max": stats.batch_max,
        }

    def _measured(self) -> dict[str, Any]:
        self._meter.note(time.monotonic(), self._backend.stats.tokens)
        return self.stats()

    def _report(self) -> WorkerReport:
        return self._telemetry.report(
            self._backend.stats, claims=self._claimer.num_claims, reaper_acts=self._reaper.acts
        )

    # Leaving

    async def drain(self) -> None:
        """Leave within two seconds: stop claiming, stop stepping, write what is there, queue the running jobs
        again, ring for them, acknowledge the wake-ups. What does not succeed is done by others' reapers."""
        await self._is_running.wait()
        await self._task_set.stop("lease", "claimer", "parker", BEGINNING, "watchdog", "reaper")
        failpoint("drain_begun")
        await _bounded(asyncio.to_thread(self._backend.stop), "the last step")
        failpoint("drain_stopped")
        await _bounded(self._publisher.flush(), "the last output")
        failpoint("drain_flushed")
        await self._task_set.stop("publisher", "heartbeat")
        await _bounded(self._hand_on(), "handing on the jobs")
        for running in self._jobs:
            self._jobs.drop(running, "handed on")
        for wake_up in self._claimer.wake_ups:
            wake_up.end("handed on")
        for executor in (self._resolver, self._preparer):
            executor.shutdown(wait=False, cancel_futures=True)
        self._is_drained.set()

    async def _hand_on(self) -> None:
        wake_ups = await self._lease.release()
        failpoint("drain_released")
        model = self._lease.lease.model
        await self._sender.send([*wake_ups, *(WakeUp(held.job_id, model) for held in self._claimer.wake_ups)])
        failpoint("drain_woken")
        logger.info("%d jobs handed on", len(wake_ups))


async def _bounded(part: Coroutine[Any, Any, None], what: str) -> None:
    try:
        async with asyncio.timeout(_DRAIN_PART_S):
            await part
    except (TimeoutError, StoreUnavailable) as error:
        logger.warning("%s not completed: %s", what, str(error) or "it takes too long")
