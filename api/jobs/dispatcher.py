"""Dispatcher: makes a request into a job that is followed and queued, with a wake-up sent."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from api.dialects.openai_chat.chunks import JobInfo
from api.streaming.cursor import Cursor
from api.streaming.relay import Relay
from api.streaming.subscription import Subscription
from shared.domain.job import Accepted, NewJob
from shared.domain.wake_up import WakeUp
from shared.errors import BatonError
from shared.runtime.failpoint import failpoint
from shared.store.job_store import JobStore, Reader

logger = logging.getLogger(__name__)


class SendsWakeUps(Protocol):
    """`shared.cluster.wake_up_sender.WakeUpSender`, as far as it is needed here."""

    async def send(self, wake_ups: list[WakeUp]) -> None: ...


class Dispatcher:
    """Accepts jobs."""

    def __init__(self, store: JobStore, sender: SendsWakeUps, relay: Relay, *, max_open_jobs: int) -> None:
        self._store = store
        self._sender = sender
        self._relay = relay
        self._max_open_jobs = max_open_jobs
        self._ringing: set[asyncio.Task[None]] = set()

    async def accept(self, job: NewJob, *, reader: Reader | None = None) -> Accepted:
        """Write the job and ring for it; or answer the one that its key made before.

        Raises StoreUnavailable, after which the job may have been written, KeyReused and TooManyJobs.
        """
        failpoint("creating")
        accepted = await self._store.create(job, max_open=self._max_open_jobs, reader=reader)
        failpoint("created")
        if accepted.is_replay:
            return accepted
        # Off the request's way, and never waited for: the reaper rings again for a wake-up that is lost.
        task = asyncio.create_task(self._ring(WakeUp(job.id, job.model)))
        self._ringing.add(task)
        task.add_done_callback(self._ringing.discard)
        return accepted

    async def accept_and_follow(self, job: NewJob) -> tuple[Subscription, JobInfo]:
        """The same for a job without a key, heard of from the first event on. Raises StoreUnavailable."""
        assert job.key is None
        # Followed first, then written: nothing can be missed and nothing need be read.
        subscription = self._relay.follow(job.id, Cursor.start(job.id, job.n)._replace(marker=1))
        try:
            with self._relay.creating(subscription):
                accepted = await self.accept(job, reader=subscription.reader)
        except BaseException:
            subscription.close()
            raise
        return subscription, JobInfo(job.id, job.model, int(accepted.created_at), job.n)

    async def _ring(self, wake_up: WakeUp) -> None:
        try:
            await self._sender.send([wake_up])
            failpoint("wake_up_sent")
        except (BatonError, OSError) as error:
            logger.warning("wake-up for %s not sent: %s", wake_up.job_id, type(error).__name__)
