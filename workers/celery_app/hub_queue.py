"""HubQueue: calls for Celery's event loop, from any thread."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

logger = logging.getLogger(__name__)


class HubQueue:
    """A queue and a pipe that wakes the loop.

    Not `hub.call_soon`: what such a call schedules itself (an acknowledgement, an event) waits there until
    the loop's poll returns, up to a second. The queue outlives the loop's reset after a broken connection.
    """

    def __init__(self) -> None:
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self.writer, False)

    def post(self, call: Callable[..., object], *args: Any) -> None:
        """Have `call` made in the loop's thread; before what is posted later."""
        self._calls.append((call, args))
        with suppress(BlockingIOError):  # full: the loop is being woken
            os.write(self.writer, b"\0")

    def register(self, hub: Any) -> None:
        """Listen in this loop; again after each of its resets."""
        hub.add_reader(self._reader, self.deliver)
        self.deliver()

    def deliver(self) -> None:
        """Make the calls. In the loop's thread."""
        with suppress(BlockingIOError):
            os.read(self._reader, 65_536)
        while self._calls:
            call, args = self._calls.popleft()
            try:
                call(*args)
            except Exception:
                logger.exception("a callback of Celery's failed")
