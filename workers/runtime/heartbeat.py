"""Heartbeat: the worker's sign of life, and what it learns from the answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.wake_up import WakeUp
from shared.domain.worker_report import WorkerReport
from shared.errors import StoreUnavailable
from shared.runtime.failpoint import failpoint
from shared.store.job_store import JobStore
from workers.backends.backend import Backend
from workers.runtime.claimer import UNREADABLE_JOB, Claimer
from workers.runtime.lease import LeaseKeeper
from workers.runtime.running_job import RunningJobs

logger = logging.getLogger(__name__)

_BEAT_S = 0.5
#: A backend that has work and makes no step for this long hangs.
STEP_TIMEOUT_S = 60.0


class BackendStalled(Exception):
    """Raised when the backend has had work and made no step for STEP_TIMEOUT_S."""


class Heartbeat:
    """Beats twice a second. Ends with BackendStalled when the backend hangs: nobody must think it alive."""

    def __init__(
        self,
        store: JobStore,
        lease: LeaseKeeper,
        jobs: RunningJobs,
        claimer: Claimer,
        backend: Backend,
        sender: WakeUpSender,
        *,
        stats: Callable[[], Mapping[str, Any]],
        report: Callable[[], WorkerReport],
        on_drain: Callable[[], None],
        step_timeout_s: float = STEP_TIMEOUT_S,
    ) -> None:
        self._store = store
        self._lease = lease
        self._jobs = jobs
        self._claimer = claimer
        self._backend = backend
        self._sender = sender
        self._stats = stats
        self._report = report
        self._on_drain = on_drain
        self._step_timeout_s = step_timeout_s
        #: Jobs, with words, that the last answer believed to run here and that do not.
        self._strays: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Beat, for ever."""
        while True:
            if self._backend.stalled_s > self._step_timeout_s:
                raise BackendStalled(f"no step for {self._backend.stalled_s:.0f} s")
            try:
                await self.beat()
            except StoreUnavailable as error:
                logger.warning("no beat: %s", error)
            await asyncio.sleep(_BEAT_S)

    async def beat(self) -> None:
        """One sign of life. Raises StoreUnavailable."""
        lease = self._lease.lease
        answer = await self._store.beat(
            lease.worker_instance,
            steps=self._backend.stats.steps,
            wake_ups=len(self._claimer.wake_ups) + self._jobs.num_wake_ups,
            running=self._jobs.claim_tokens,
            stats=self._stats(),
            report=self._report(),
        )
        if answer is None:
            self._strays.clear()
            await self._lease.begin_anew(lease)
        else:
            if answer.is_draining:
                self._on_drain()
            await self._settle(answer.strays)

    async def _settle(self, unknown: Mapping[str, str]) -> None:
        """Give back the jobs whose claim's answer was lost. One that is being claimed is named as well, until
        its answer is here: only what two answers in a row name, with no claim on its way, is a stray."""
        if self._claimer.is_claiming:
            self._strays.clear()
            return
        # Meanwhile others may have been claimed and told.
        strays = set(unknown.items()) - set(self._jobs.claim_tokens.items())
        for job_id, claim_token in strays & self._strays:
            await self._give_back(job_id, claim_token)
        self._strays = strays - self._strays

    async def _give_back(self, job_id: str, claim_token: str) -> None:
        if claim_token in self._claimer.unreadable:
            self._claimer.unreadable.remove(claim_token)
            await self._store.fail(job_id, UNREADABLE_JOB)
        elif await self._store.requeue(job_id, claim_token, "given_back") == "requeued":
            failpoint("given_back")
            logger.warning("%s was claimed without an answer and is given back", job_id)
            await self._sender.send([WakeUp(job_id, self._lease.lease.model)])
