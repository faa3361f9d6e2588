"""Server: uvicorn with Baton's shutdown."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn


class Server(uvicorn.Server):
    """When told to stop, it lets streams continue for the drain time and then leaves them incomplete."""

    def __init__(self, config: uvicorn.Config, *, drain_s: float, stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._drain_s = drain_s
        self._stop = stop

    async def startup(self, sockets: list[Any] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """A signal came. Unlike with uvicorn's own handler, the process then exits with 0."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
            return
        self.begin_exit()

    def begin_exit(self) -> None:
        """Accept no more connections, and stop streams after the drain time. May be called from any thread."""
        if not self.should_exit:
            self.should_exit = True
            self._loop.call_soon_threadsafe(self._loop.call_later, self._drain_s, self._stop)
