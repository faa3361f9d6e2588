"""Dispatcher: stores a new job, sends its wake-up and subscribes to it."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from api.dialects.base import JobInfo
from api.jobs.withdrawals import Withdrawals
from api.streaming.cursor import Cursor
from api.streaming.relay import Relay
from api.streaming.subscription import Subscription
from shared.domain.job import Accepted, NewJob
from shared.domain.request_key import RequestKey
from shared.domain.wake_up import WakeUp
from shared.errors import BatonError, BrokerUnavailable, StoreUnavailable
from shared.runtime.failpoint import failpoint
from shared.store.job_store import JobStore, Limits, Reader

logger = logging.getLogger(__name__)


class WakeUps(Protocol):
    """Sends wake-ups: `shared.cluster.wake_up_sender.WakeUpSender`."""

    @property
    def has_failed(self) -> bool: ...
    async def send(self, wake_ups: list[WakeUp]) -> None: ...
    async def ping(self) -> None: ...


class Dispatcher:
    """Accepts jobs."""

    def __init__(
        self, store: JobStore, sender: WakeUps, relay: Relay, withdrawals: Withdrawals, *, limits: Limits
    ) -> None:
        self._store = store
        self._sender = sender
        self._withdrawals = withdrawals
        self._relay = relay
        self._limits = limits
        self._sending: set[asyncio.Task[None]] = set()

    async def accept(self, job: NewJob, *, reader: Reader | None = None) -> Accepted:
        """Store the job and send its wake-up; or return the job that its key made before.

        Raises StoreUnavailable: the job was not stored. Raises Unsettled, KeyReused, TooManyJobs and
        StorageFull.
        """
        failpoint("creating")
        try:
            accepted = await self._store.create(job, limits=self._limits, reader=reader)
        except StoreUnavailable:
            accepted = await self._withdrawals.settle(job)
        failpoint("created")
        if accepted.is_replay:
            return accepted
        # The request does not wait for it: the reaper sends another wake-up for one that is lost.
        task = asyncio.create_task(self._send(WakeUp(job.id, job.model)))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        return accepted

    async def require_broker(self) -> None:
        """Raises BrokerUnavailable if no worker would hear of a new job; StoreUnavailable if the store is away too."""
        try:
            await self._sender.ping()
        except BrokerUnavailable:
            await self._store.ping()
            raise

    async def require_wake_ups(self, key: RequestKey | None) -> None:
        """The same for a request whose client waits, as far as it is known. A key that is known needs no worker.

        A job that nobody waits for is accepted without a broker, and runs once the broker is back.
        """
        if self._sender.has_failed and not (key and await self._store.is_known(key)):
            await self.require_broker()

    async def accept_and_follow(self, job: NewJob) -> tuple[Subscription, JobInfo]:
        """The same for a job without a key, with a subscription from its first event on. Raises the same."""
        assert job.key is None
        # Subscribed first, then stored: nothing can be missed and nothing has to be read.
        n = job.request.num_choices
        subscription = self._relay.follow(job.id, Cursor.start(job.id, n)._replace(marker=1))
        try:
            with self._relay.creating(subscription):
                accepted = await self.accept(job, reader=subscription.reader)
        except BaseException:
            subscription.close()
            raise
        return subscription, JobInfo(job.id, job.endpoint, job.model, int(accepted.created_at), n)

    async def _send(self, wake_up: WakeUp) -> None:
        try:
            await self._sender.send([wake_up])
            failpoint("wake_up_sent")
        except (BatonError, OSError) as error:
            logger.warning("wake-up for %s not sent: %s", wake_up.job_id, type(error).__name__)
