"""PubSubReader: hears in Redis what the scripts publish. Transport only; what it means is the relay's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Literal

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.streaming.lag_probe import LagProbe
from shared.errors import StoreUnavailable
from shared.store import keys
from shared.store.redis_client import unavailable_as_error

logger = logging.getLogger(__name__)

#: A connection that is silent for this long is asked whether it lives; silent twice, it does not.
_SILENCE_S = 5.0
_BACK_OFF_S = (0.05, 0.1, 0.2, 0.5, 1.0)


class Heard(msgspec.Struct, frozen=True, array_like=True):
    """A published entry, whose event is not decoded yet: most are of jobs that nobody here follows."""

    job_id: str
    stream_id: str
    end: str
    used: str
    event: msgspec.Raw


_DECODER = msgspec.json.Decoder(list[Heard])


class PubSubReader:
    """One subscription for all clients of this process: to its replica's channel, and to the probe's."""

    def __init__(self, redis: Redis, replica: str, probe: LagProbe) -> None:
        self._redis = redis
        self._channel = keys.channel(replica)
        self._probe = probe

    async def messages(self) -> AsyncIterator[list[Heard] | Literal["connected"]]:
        """What is published, one list a message; `connected` whenever something may have been missed.

        Never ends: it connects again by itself.
        """
        failures = 0
        while True:
            try:
                async for message in self._connection():
                    failures = 0
                    yield message
            except StoreUnavailable as error:
                logger.warning("pub/sub: %s", error)
            await asyncio.sleep(_BACK_OFF_S[min(failures, len(_BACK_OFF_S) - 1)])
            failures += 1

    async def _connection(self) -> AsyncIterator[list[Heard] | Literal["connected"]]:
        """One subscription, until it breaks. Raises StoreUnavailable."""
        pubsub = self._redis.pubsub()
        silences = 0
        try:
            with unavailable_as_error():
                await pubsub.subscribe(self._channel, self._probe.channel)
            while silences < 2:
                with unavailable_as_error():
                    message = await pubsub.get_message(timeout=_SILENCE_S)
                    if message is None:
                        await pubsub.ping()
                silences = silences + 1 if message is None else 0
                if message is not None and message["type"] == "message":
                    if message["channel"] == self._probe.channel:
                        self._probe.heard()
                    else:
                        yield _decode(message["data"])
                elif message is not None and message["channel"] == self._channel:
                    # Also when redis-py connected anew and subscribed again by itself.
                    yield "connected"
        finally:
            with suppress(RedisError, OSError):
                await pubsub.aclose()  # type: ignore[no-untyped-call]


def _decode(data: str) -> list[Heard]:
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeError):
        logger.warning("pub/sub: dropped a message that Baton's scripts did not write")
        return []
