"""Releases a dead worker's jobs at once instead of waiting until its lease expires."""

from __future__ import annotations

import asyncio
import logging
import socket
import time

from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.wake_up import WakeUp
from shared.errors import StoreUnavailable
from shared.store.job_store import JobStore

logger = logging.getLogger(__name__)

#: For how long Redis is asked again. After that, a reaper has released the lease long since.
_PATIENCE_S = 10.0
_RETRY_S = 0.1


class LeaseReleaser:
    """Its `release` is called for each worker process that ended."""

    def __init__(self, store: JobStore, sender: WakeUpSender) -> None:
        self._store = store
        self._sender = sender

    async def release(self, name: str, pid: int) -> None:
        """Ends the leases that this process held. Redis may be away too: it is asked again until it answers."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return await self._sender.send(await self._released(name, pid))
            except StoreUnavailable as error:
                if time.monotonic() > deadline:
                    return logger.warning("%s: its jobs wait until its lease expires: %s", name, error)
            await asyncio.sleep(_RETRY_S)

    async def _released(self, name: str, pid: int) -> list[WakeUp]:
        """Raises StoreUnavailable. A call that is repeated has nothing left to release, but the reapers send lost
        wake-ups again."""
        wake_ups: list[WakeUp] = []
        for worker in await self._store.workers():
            if (worker.name, worker.pid, worker.host) == (name, pid, socket.gethostname()):
                wake_ups += await self._store.release(worker.worker_instance, "worker_died", died=True)
        return wake_ups
