"""Watchdog: a worker that could claim and does not is of no use, and its wake-ups call nobody else."""

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
#: Looks in a row that must find the same. Counted, not timed: a process that stood still has seen nothing.
MAX_IDLE_LOOKS = 10


class WorkerIdle(Exception):
    """Raised when jobs wait, wake-ups are there and a slot is free, and for ten seconds no claim was made."""


class Watchdog:
    """Judges only while Redis answers: a claim that it refuses is a claim too."""

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
        """Look each second. Ends with WorkerIdle."""
        while True:
            await asyncio.sleep(_LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Raises WorkerIdle when this and the looks before it found a worker that claims nothing."""
        try:
            self._num_idle = self._num_idle + 1 if await self._is_idle() else 0
        except StoreUnavailable as error:
            logger.warning("not judged: %s", error)
            self._num_idle = 0
        if self._num_idle >= MAX_IDLE_LOOKS:
            raise WorkerIdle(f"no claim in {MAX_IDLE_LOOKS} looks")

    async def _is_idle(self) -> bool:
        before, self._num_asked = self._num_asked, self._claimer.num_asked
        if self._num_asked != before or self._jobs.num_free_slots < 1:
            return False
        if not await self._store.num_queued(self._model):
            return False
        # Held here, or in Celery's list, from where they should have been taken at once.
        return bool(self._claimer.wake_ups) or await self._sender.num_waiting(self._model) > 0
