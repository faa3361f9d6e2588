"""Heartbeat: reports to the store that the worker is alive, and acts on the replies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from shared.errors import StoreUnavailable
from shared.store.job_store import JobStore
from workers.runtime.health.strays import Strays
from workers.runtime.health.vitals import Vitals
from workers.runtime.lease import LeaseKeeper
from workers.runtime.running_job import RunningJobs

logger = logging.getLogger(__name__)

_BEAT_S = 0.5


class Heartbeat:
    """Beats twice a second. `on_drain` is called after each reply that asks the worker to drain."""

    def __init__(
        self,
        store: JobStore,
        lease: LeaseKeeper,
        jobs: RunningJobs,
        vitals: Vitals,
        strays: Strays,
        on_drain: Callable[[], None],
    ) -> None:
        self._store = store
        self._lease = lease
        self._jobs = jobs
        self._vitals = vitals
        self._strays = strays
        self._on_drain = on_drain

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            try:
                await self.beat()
            except StoreUnavailable as error:
                logger.warning("heartbeat failed: %s", error)
            await asyncio.sleep(_BEAT_S)

    async def beat(self) -> None:
        """Send one heartbeat. Raises StoreUnavailable."""
        lease = self._lease.lease
        self._vitals.measure()
        answer = await self._store.beat(
            lease.worker_instance,
            steps=self._vitals.num_steps,
            wake_ups=self._vitals.num_wake_ups,
            running=self._jobs.claim_tokens,
            stats=self._vitals.stats(),
            report=self._vitals.report(),
        )
        if answer is None:
            self._strays.forget()
            await self._lease.begin_again(lease)
        else:
            if answer.is_draining:
                self._on_drain()
            await self._strays.settle(answer.strays)
