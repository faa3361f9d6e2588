"""LeaseReleaser: gives a dead worker's jobs back at once, where its lease would take seconds to run out."""

from __future__ import annotations

import logging
import socket

from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.wake_up import WakeUp
from shared.errors import StoreUnavailable
from shared.store.job_store import JobStore

logger = logging.getLogger(__name__)


class LeaseReleaser:
    """Told of each child that ended."""

    def __init__(self, store: JobStore, sender: WakeUpSender) -> None:
        self._store = store
        self._sender = sender

    async def give(self, name: str, pid: int) -> None:
        """End the leases that this process held. When Redis is away too, the reapers will."""
        wake_ups: list[WakeUp] = []
        try:
            for worker in await self._store.workers():
                if (worker.name, worker.pid, worker.host) == (name, pid, socket.gethostname()):
                    wake_ups += await self._store.release(worker.worker_instance, "worker_died", died=True)
        except StoreUnavailable as error:
            logger.warning("death of %s not told: %s", name, error)
        await self._sender.send(wake_ups)
