"""HubQueue: passes calls from any thread to Celery's event loop."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

logger = logging.getLogger(__name__)


class HubQueue:
    """A queue of calls, and a pipe that wakes the loop.

    `hub.call_soon` is not enough: what such a call schedules (an acknowledgement, an event) waits until the loop's poll
    returns, for up to a second. This queue also survives the loop's reset after a broken connection.
    """

    def __init__(self) -> None:
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self.writer, False)

    def post(self, call: Callable[..., object], *args: Any) -> None:
        """Run `call` in the loop's thread. Calls run in the order in which they were posted."""
        self._calls.append((call, args))
        with suppress(BlockingIOError):  # the pipe is full, so the loop will wake anyway
            os.write(self.writer, b"\0")

    def register(self, hub: Any) -> None:
        """Start to deliver in this loop. To be called again after each reset of the loop."""
        hub.add_reader(self._reader, self.deliver)
        self.deliver()

    def deliver(self) -> None:
        """Run the posted calls. Called in the loop's thread."""
        with suppress(BlockingIOError):
            os.read(self._reader, 65_536)
        while self._calls:
            call, args = self._calls.popleft()
            try:
                call(*args)
            except Exception:
                logger.exception("a Celery callback failed")
