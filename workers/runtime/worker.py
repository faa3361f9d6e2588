"""Worker: claims jobs, generates their output and writes it, on one asyncio event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.wake_up import WakeUp
from shared.errors import StoreUnavailable
from shared.runtime.failpoint import failpoint
from shared.store.job_store import JobStore
from workers.backends.backend import Backend, StepOutput
from workers.celery_app.pending_task import PendingTask
from workers.runtime.backoff import Backoff
from workers.runtime.claimer import BEGINNING, Claimer
from workers.runtime.health.vitals import Vitals
from workers.runtime.lease import LeaseKeeper
from workers.runtime.publisher import Publisher
from workers.runtime.running_job import RunningJob, RunningJobs
from workers.runtime.task_set import TaskSet

logger = logging.getLogger(__name__)

#: Time limit for each part of a drain: the last step, the last output, requeueing the jobs.
_DRAIN_PART_S = 0.6
#: A coroutine function that runs until cancelled.
Duty = Callable[[], Coroutine[Any, Any, None]]


class Worker:
    """One worker, used in one event loop. `run` works until `drain` was called. Built by `make_worker`."""

    def __init__(
        self,
        store: JobStore,
        sender: WakeUpSender,
        backend: Backend,
        jobs: RunningJobs,
        lease: LeaseKeeper,
        claimer: Claimer,
        publisher: Publisher,
        vitals: Vitals,
        task_set: TaskSet,
        *,
        finish_s: float,
        claiming: Mapping[str, Duty],
        living: Mapping[str, Duty],
    ) -> None:
        """`claiming`: duties, by name, that a drain stops first. `living`: duties that run until the last output is
        written."""
        self._store = store
        self._sender = sender
        self._backend = backend
        self._jobs = jobs
        self._lease = lease
        self._claimer = claimer
        self._publisher = publisher
        self._vitals = vitals
        self._task_set = task_set
        #: How long a drain waits for jobs that no other worker can continue.
        self.finish_s = finish_s
        self._claiming = dict(claiming)
        self._living = {**living, "publisher": publisher.run}
        self._is_running = asyncio.Event()
        self._is_drained = asyncio.Event()

    async def run(self) -> None:
        """Work until drained."""
        self._start_backend()
        begin = self._task_set.spawn(self._lease.begin(), name="lease")
        self._is_running.set()
        await asyncio.wait([begin])
        if not begin.cancelled():
            logger.info("ready as %s", self._lease.worker_instance)
            for name, duty in (self._claiming | self._living).items():
                self._task_set.spawn(duty(), name=name)
        await self._is_drained.wait()

    def _start_backend(self) -> None:
        loop = asyncio.get_running_loop()

        def on_outputs(outputs: Sequence[StepOutput]) -> None:
            # The output of a step that ends after the drain is dropped. Another worker draws the tokens again.
            if not self._is_drained.is_set():
                loop.call_soon_threadsafe(self._publisher.take, outputs)

        self._backend.start(on_outputs, self._task_set.on_death)

    # Called for Celery, in the event loop's thread

    def hold(self, wake_up: PendingTask) -> None:
        """Take a wake-up that Celery delivered."""
        self._claimer.hold(wake_up)

    async def terminate(self, wake_up: PendingTask) -> None:
        """Handle a revoked task: drop a waiting wake-up, or cancel the wake-up's running job."""
        if self._claimer.withdraw(wake_up):
            wake_up.accept()  # Celery announces a revoked task only after it was accepted
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
                logger.warning("cannot cancel %s: %s", running.job.id, error)
                await backoff.sleep()

    @property
    def num_usable_wake_ups(self) -> int:
        """One for each running job and one for each free slot. May be read from any thread."""
        return len(self._jobs) + max(0, self._jobs.num_free_slots)

    def stats(self) -> dict[str, Any]:
        """Return counters and gauges. May be called from any thread."""
        return self._vitals.stats()

    # Draining

    async def drain(self) -> None:
        """Stop within two seconds, plus `finish_s`.

        Stops claiming, stops the backend, writes the last output, queues the running jobs again, sends wake-ups for
        them, and acknowledges its own wake-ups. If a part fails, the reapers of other processes do it later.
        """
        await self._is_running.wait()
        await self._task_set.stop("lease", BEGINNING, *self._claiming)
        failpoint("drain_begun")
        await self._finish_begun()
        await _bounded(self._backend.stop(), "the last step")
        failpoint("drain_stopped")
        await _bounded(self._publisher.flush(), "the last output")
        failpoint("drain_flushed")
        await self._task_set.stop(*self._living)
        await _bounded(self._requeue_jobs(), "requeueing the jobs")
        for running in self._jobs:
            self._jobs.drop(running, "requeued")
        for wake_up in self._claimer.wake_ups:
            wake_up.end("requeued")
        self._is_drained.set()

    async def _finish_begun(self) -> None:
        """Wait up to `finish_s` for jobs with released output that no other worker can continue."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.finish_s):
                while self.finish_s and any(any(running.released.positions) for running in self._jobs):
                    self._jobs.may_claim.clear()
                    await self._jobs.may_claim.wait()

    async def _requeue_jobs(self) -> None:
        wake_ups = await self._lease.release()
        failpoint("drain_released")
        model = self._lease.lease.model
        await self._sender.send([*wake_ups, *(WakeUp(held.job_id, model) for held in self._claimer.wake_ups)])
        failpoint("drain_woken")
        logger.info("%d jobs requeued", len(wake_ups))


async def _bounded(part: Coroutine[Any, Any, None], what: str) -> None:
    try:
        async with asyncio.timeout(_DRAIN_PART_S):
            await part
    except (TimeoutError, StoreUnavailable) as error:
        logger.warning("%s not completed: %s", what, str(error) or "it takes too long")
