"""LagProbe: how long what is published in Redis takes to be heard here.

The same clock sees both ends, and the probe waits in line behind all that the relay has yet to hear.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable

from redis.asyncio import Redis

from shared.errors import StoreUnavailable
from shared.store import keys
from shared.store.redis_client import unavailable_as_error

logger = logging.getLogger(__name__)

_PERIOD_S = 1.0
#: A probe that is not back after this was lost with its connection.
_LOST_S = 10.0


class LagProbe:
    """One message at a time on a channel of its own, to be reported by whoever listens to all channels."""

    def __init__(self, redis: Redis, observe: Callable[[float], None]) -> None:
        self._redis = redis
        self._observe = observe
        self.channel = keys.channel(f"probe.{secrets.token_hex(6)}")
        self._sent_at = 0.0
        self._is_back = asyncio.Event()

    async def run(self) -> None:
        """Send, for ever."""
        while True:
            await asyncio.sleep(_PERIOD_S)
            self._is_back.clear()
            self._sent_at = time.perf_counter()
            try:
                with unavailable_as_error():
                    # No events: other replicas hear nothing in it.
                    await self._redis.publish(self.channel, "[]")
                async with asyncio.timeout(_LOST_S):
                    await self._is_back.wait()
            except (StoreUnavailable, TimeoutError):
                logger.debug("a probe was lost")

    def heard(self) -> None:
        """The probe came back."""
        if not self._is_back.is_set():
            self._is_back.set()
            self._observe(time.perf_counter() - self._sent_at)
