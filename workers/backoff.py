"""Backoff: how long to wait before something that failed is tried again."""

from __future__ import annotations

import asyncio

_FIRST_S = 0.05
_MOST_S = 1.0


class Backoff:
    """Doubles from 50 ms to a second, until it is reset."""

    def __init__(self) -> None:
        self._delay_s = _FIRST_S

    def reset(self) -> None:
        self._delay_s = _FIRST_S

    async def sleep(self) -> None:
        await asyncio.sleep(self._delay_s)
        self._delay_s = min(2 * self._delay_s, _MOST_S)
