"""Ringer: sends bells through Celery, from a thread, never longer than a bound."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from celery import Celery
from kombu.exceptions import OperationalError
from redis.asyncio import Redis

from shared import keys
from shared.bell import Bell
from shared.redis_client import unavailable_as_error

logger = logging.getLogger(__name__)


class Ringer:
    """Rings for jobs that are already written. A bell that is lost is rung again by the reaper."""

    def __init__(self, celery: Celery, broker: Redis) -> None:
        self._celery = celery
        self._broker = broker
        # One thread: kombu's producer pool needs no more, and bells of one process keep their order.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="ringer")

    async def ring(self, bells: Iterable[Bell]) -> None:
        """Send a message for each bell. A broker that refuses is logged: the reaper rings again."""
        if sent := list(bells):
            await asyncio.get_running_loop().run_in_executor(self._executor, self._send, sent)

    def _send(self, bells: list[Bell]) -> None:
        for bell in bells:
            try:
                self._celery.send_task(
                    keys.BELL_TASK, args=(bell.job_id,), queue=keys.bell_queue(bell.model), retry=False
                )
            except OperationalError as error:
                logger.warning("bell for %s not rung: %s", bell.job_id, type(error).__name__)

    async def num_waiting(self, model: str) -> int:
        """Bells in Celery's list that no worker has taken. Raises StoreUnavailable."""
        with unavailable_as_error():
            return await self._broker.llen(keys.bell_queue(model))

    def close(self) -> None:
        """Forget what is not sent yet."""
        self._executor.shutdown(wait=False, cancel_futures=True)
