"""DeathNotice: gives a dead worker's jobs back at once, where its lease would take seconds to run out."""

from __future__ import annotations

import logging
import socket

from shared.bell import Bell
from shared.errors import StoreUnavailable
from shared.job_store import JobStore
from shared.ringer import Ringer

logger = logging.getLogger(__name__)


class DeathNotice:
    """Told of each child that ended."""

    def __init__(self, store: JobStore, ringer: Ringer) -> None:
        self._store = store
        self._ringer = ringer

    async def give(self, name: str, pid: int) -> None:
        """End the leases that this process held. When Redis is away too, the reapers will."""
        bells: list[Bell] = []
        try:
            for worker in await self._store.workers():
                if (worker.name, worker.pid, worker.host) == (name, pid, socket.gethostname()):
                    bells += await self._store.release(worker.incarnation, "worker_died", died=True)
        except StoreUnavailable as error:
            logger.warning("death of %s not told: %s", name, error)
        await self._ringer.ring(bells)
