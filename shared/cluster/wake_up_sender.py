"""WakeUpSender: sends wake-ups through Celery, on a thread of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from celery import Celery
from kombu.exceptions import OperationalError
from redis.asyncio import Redis

from shared.domain.wake_up import WakeUp
from shared.store import keys
from shared.store.redis_client import unavailable_as_error

logger = logging.getLogger(__name__)


class WakeUpSender:
    """Sends wake-ups for jobs that are already stored. The reaper sends lost wake-ups again."""

    def __init__(self, celery: Celery, broker: Redis) -> None:
        self._celery = celery
        self._broker = broker
        # One thread is enough for kombu's producer pool, and keeps this process's wake-ups in order.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="sender")

    async def send(self, wake_ups: Iterable[WakeUp]) -> None:
        """Send a message for each wake-up. A failure is only logged, because the reaper sends another wake-up."""
        if sent := list(wake_ups):
            await asyncio.get_running_loop().run_in_executor(self._executor, self._send, sent)

    def _send(self, wake_ups: list[WakeUp]) -> None:
        for wake_up in wake_ups:
            try:
                self._celery.send_task(
                    keys.WAKE_UP_TASK,
                    args=(wake_up.job_id,),
                    queue=keys.wake_up_queue(wake_up.model),
                    retry=False,
                )
            except OperationalError as error:
                logger.warning("wake-up for %s not sent: %s", wake_up.job_id, type(error).__name__)

    async def num_waiting(self, model: str) -> int:
        """Return how many wake-ups no worker has taken from the broker. Raises StoreUnavailable."""
        with unavailable_as_error():
            return await self._broker.llen(keys.broker_list(model))

    def close(self) -> None:
        """Discard what is not sent yet."""
        self._executor.shutdown(wait=False, cancel_futures=True)
