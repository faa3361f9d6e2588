"""Withdrawals: what becomes of a job whose client is told to repeat the request.

A client repeats a request that got a 503, so the job of that request must not run too. Redis may not answer just then.
"""

from __future__ import annotations

import asyncio
import logging

from api.errors import Unsettled
from shared.domain.job import Accepted, NewJob
from shared.errors import StoreUnavailable
from shared.store.job_store import JobStore

logger = logging.getLogger(__name__)

_BACK_OFF_S = 0.25
#: Jobs that wait for Redis, at most: some 20 MB. More are left to run.
_MAX_PENDING = 100_000


class Withdrawals:
    """Ends such jobs, as soon as Redis answers. `run` it until cancelled."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._pending: dict[str, None] = {}
        self._work = asyncio.Event()

    async def settle(self, job: NewJob) -> Accepted:
        """Find out what came of a creation whose reply was lost or late.

        Raises StoreUnavailable: the job was not stored, and will not be. Raises Unsettled if Redis still does not
        answer; the job is then ended later, unless the client can name it by its key. Raises KeyReused.
        """
        try:
            accepted = await self._store.withdraw(job.id, job.key)
        except StoreUnavailable as error:
            if job.key is None:
                self._end_later(job.id)
            raise Unsettled(job.id, has_key=job.key is not None) from error
        if accepted is None:
            raise StoreUnavailable("the job was not stored")
        return accepted

    async def give_up(self, job_id: str) -> str | None:
        """End a stored job. Returns its status then, or `cancelled` if Redis does not answer: it is ended later."""
        try:
            return await self._store.give_up(job_id, "deadline")
        except StoreUnavailable:
            self._end_later(job_id)
            return "cancelled"

    def _end_later(self, job_id: str) -> None:
        if len(self._pending) < _MAX_PENDING:
            self._pending[job_id] = None
            self._work.set()
        else:
            logger.warning("%s is not withdrawn: too many jobs wait for that", job_id)

    async def run(self) -> None:
        """End the jobs that could not be ended at once, for ever."""
        while True:
            await self._work.wait()
            try:
                for job_id in list(self._pending):
                    await self._end(job_id)
                    del self._pending[job_id]
                self._work.clear()
            except StoreUnavailable as error:
                logger.warning("%d jobs are not withdrawn yet: %s", len(self._pending), error)
                await asyncio.sleep(_BACK_OFF_S)

    async def _end(self, job_id: str) -> None:
        if await self._store.withdraw(job_id, None) is not None:
            await self._store.give_up(job_id, "deadline")
            logger.info("withdrew %s: its client got an error and may repeat the request", job_id)
