"""LeaseKeeper: registers the worker with the store, again after its lease was lost."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import replace

from shared.domain.lease import Lease
from shared.domain.wake_up import WakeUp
from shared.runtime.failpoint import failpoint
from shared.store.job_store import JobStore
from workers.runtime.backoff import until_available
from workers.runtime.running_job import RunningJobs

logger = logging.getLogger(__name__)


class LeaseKeeper:
    """Holds one lease at a time. After a lost lease the worker registers as a new worker instance."""

    def __init__(self, store: JobStore, lease: Lease, jobs: RunningJobs) -> None:
        self._store = store
        self._lease = replace(lease, worker_instance=_new_instance(lease.name))
        self._jobs = jobs
        self._beginning = asyncio.Lock()

    @property
    def lease(self) -> Lease:
        return self._lease

    @property
    def worker_instance(self) -> str:
        return self._lease.worker_instance

    async def begin(self) -> None:
        """Register. Retries until the store answers."""
        await until_available(lambda: self._store.register(self._lease), "lease")
        failpoint("lease_begun")

    async def begin_again(self, lost: Lease) -> None:
        """Drop all jobs and register as a new instance, because the store does not know the lease `lost`."""
        async with self._beginning:
            if self._lease is not lost:
                return
            logger.warning(
                "the lease of %s is lost: dropping its %d jobs", lost.worker_instance, len(self._jobs)
            )
            for running in self._jobs:
                self._jobs.drop(running, "taken away: the lease was lost")
            self._lease = replace(lost, worker_instance=_new_instance(lost.name))
            await self.begin()

    async def release(self) -> list[WakeUp]:
        """End the lease and queue its jobs again. Returns the wake-ups to send. Raises StoreUnavailable."""
        return await self._store.release(self.worker_instance, "drain", died=False)


def _new_instance(name: str) -> str:
    return f"{name}.{secrets.token_hex(6)}"
