"""Releases a dead worker's jobs at once instead of waiting until its lease expires."""

from __future__ import annotations

import logging
import socket

from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.wake_up import WakeUp
from shared.errors import StoreUnavailable
from shared.store.job_store import JobStore

logger = logging.getLogger(__name__)


class LeaseReleaser:
    """Its `release` is called for each worker process that ended."""

    def __init__(self, store: JobStore, sender: WakeUpSender) -> None:
        self._store = store
        self._sender = sender

    async def release(self, name: str, pid: int) -> None:
        """Ends the leases that this process held. If Redis is unreachable too, the reapers do it later."""
        wake_ups: list[WakeUp] = []
        try:
            for worker in await self._store.workers():
                if (worker.name, worker.pid, worker.host) == (name, pid, socket.gethostname()):
                    wake_ups += await self._store.release(worker.worker_instance, "worker_died", died=True)
        except StoreUnavailable as error:
            logger.warning("cannot release the lease of %s, its jobs wait until it expires: %s", name, error)
        await self._sender.send(wake_ups)
