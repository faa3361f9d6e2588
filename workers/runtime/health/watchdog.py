"""Watchdog: ends a worker that could claim jobs and does not, because it would keep their wake-ups forever."""

from __future__ import annotations

import asyncio
import logging

from shared.cluster.wake_up_sender import WakeUpSender
from shared.errors import StoreUnavailable
from shared.store.job_store import JobStore
from workers.runtime.claimer import Claimer
from workers.runtime.running_job import RunningJobs

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
#: Number of checks in a row that must find the worker idle. Checks are counted, because a suspended process would
#: misjudge elapsed time.
MAX_IDLE_LOOKS = 10


class WorkerIdle(Exception):
    """Raised when no claim was made for ten seconds although jobs, wake-ups and a free slot are there."""


class Watchdog:
    """Checks the worker each second, but only while Redis answers. A refused claim counts as a claim."""

    def __init__(
        self, store: JobStore, sender: WakeUpSender, jobs: RunningJobs, claimer: Claimer, *, model: str
    ) -> None:
        self._store = store
        self._sender = sender
        self._jobs = jobs
        self._claimer = claimer
        self._model = model
        self._num_asked = 0
        self._num_idle = 0

    async def run(self) -> None:
        """Check each second until cancelled. Raises WorkerIdle."""
        while True:
            await asyncio.sleep(_LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Check once. Raises WorkerIdle if this check and those before it found the worker idle."""
        try:
            self._num_idle = self._num_idle + 1 if await self._is_idle() else 0
        except StoreUnavailable as error:
            logger.warning("watchdog skipped a check: %s", error)
            self._num_idle = 0
        if self._num_idle >= MAX_IDLE_LOOKS:
            raise WorkerIdle(f"no claim in {MAX_IDLE_LOOKS} checks")

    async def _is_idle(self) -> bool:
        before, self._num_asked = self._num_asked, self._claimer.num_asked
        if self._num_asked != before or self._jobs.num_free_slots < 1:
            return False
        if not await self._store.num_queued(self._model):
            return False
        # Either the worker holds wake-ups, or it did not receive those in Celery's queue.
        return bool(self._claimer.wake_ups) or await self._sender.num_waiting(self._model) > 0
