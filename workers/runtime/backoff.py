"""Backoff: delays between retries."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from shared.errors import StoreUnavailable

logger = logging.getLogger(__name__)
T = TypeVar("T")

_FIRST_S = 0.05
_MOST_S = 1.0


class Backoff:
    """A delay that doubles from 50 ms up to a second, until it is reset."""

    def __init__(self) -> None:
        self._delay_s = _FIRST_S

    def reset(self) -> None:
        self._delay_s = _FIRST_S

    async def sleep(self) -> None:
        await asyncio.sleep(self._delay_s)
        self._delay_s = min(2 * self._delay_s, _MOST_S)


async def until_available(call: Callable[[], Awaitable[T]], what: str) -> T:
    """Return the result of `call`, retried while the store is unavailable. `what` names it in the log."""
    backoff = Backoff()
    while True:
        try:
            return await call()
        except StoreUnavailable as error:
            logger.warning("retrying %s: %s", what, error)
            await backoff.sleep()
