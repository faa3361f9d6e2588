"""Dispatcher: makes a request into a job that is followed, queued and rung for."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from api.cursor import Cursor
from api.follower import Follower
from api.relay import Relay
from api.translate import Facts
from shared.bell import Bell
from shared.errors import BatonError
from shared.failpoint import failpoint
from shared.job import Accepted, NewJob
from shared.job_store import JobStore

logger = logging.getLogger(__name__)


class Rings(Protocol):
    """`shared.ringer.Ringer`, as far as it is needed here."""

    async def ring(self, bells: list[Bell]) -> None: ...


class Dispatcher:
    """Accepts jobs."""

    def __init__(self, store: JobStore, ringer: Rings, relay: Relay, *, max_open_jobs: int) -> None:
        self._store = store
        self._ringer = ringer
        self._relay = relay
        self._max_open_jobs = max_open_jobs
        self._ringing: set[asyncio.Task[None]] = set()

    async def accept(self, job: NewJob) -> Accepted:
        """Write the job and ring for it; or answer the one that its key made before.

        Raises StoreUnavailable, after which the job may have been written, KeyReused and TooManyJobs.
        """
        failpoint("creating")
        accepted = await self._store.create(job, max_open=self._max_open_jobs)
        failpoint("created")
        if accepted.is_replay:
            return accepted
        # Off the request's way, and never waited for: the reaper rings again for a bell that is lost.
        task = asyncio.create_task(self._ring(Bell(job.id, job.model)))
        self._ringing.add(task)
        task.add_done_callback(self._ringing.discard)
        return accepted

    async def accept_and_follow(self, job: NewJob) -> tuple[Follower, Facts]:
        """The same for a job without a key, heard of from the first event on. Raises StoreUnavailable."""
        assert job.key is None
        # First heard of, then written: nothing can be missed and nothing need be read. Until it is written
        # the follower holds, so that nobody looks for a stream that is not there yet.
        follower = self._relay.follow(job.id, Cursor.start(job.id, job.n)._replace(marker=1))
        follower.hold()
        try:
            accepted = await self.accept(job)
            self._relay.go_on(follower)
        except BaseException:
            follower.close()
            raise
        return follower, Facts(job.id, job.model, int(accepted.created_at), job.n)

    async def _ring(self, bell: Bell) -> None:
        try:
            await self._ringer.ring([bell])
            failpoint("rung")
        except (BatonError, OSError) as error:
            logger.warning("bell for %s not rung: %s", bell.job_id, type(error).__name__)
