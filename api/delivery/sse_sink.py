"""SseSink: writes events as the body of an ASGI response, with pings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from starlette.types import Send

from api.delivery import sse
from api.dialects.base import Block
from api.streaming.queue_position import QueuePosition


class SseSink:
    """Implements `api.delivery.pump.Sink`. All events of a call go out in one write."""

    def __init__(
        self,
        send: Send,
        ping_s: float,
        *,
        wake: Callable[[], object],
        abort: Callable[[], object] | None,
        retries: bool,
        queue_position: Callable[[], QueuePosition | None] = lambda: None,
    ) -> None:
        """`wake` makes the pump call `write`. `abort` cuts the connection, where the server can do so. `retries`: an
        EventSource can reconnect to this stream. `queue_position` is sent in comments."""
        self._send = send
        self._ping_s = ping_s
        self._wake = wake
        self._abort = abort
        self._queue_position = queue_position
        self._told: QueuePosition | None = None
        self._head = sse.RETRY if retries else b""
        self._loop = asyncio.get_running_loop()
        self._sent_at = self._loop.time()
        self._is_sending = False
        self._timer = self._loop.call_later(ping_s, self._beat)

    async def write(self, blocks: Sequence[Block], *, is_last: bool) -> None:
        """Write events, or a comment if the queue position has changed or a ping is due."""
        if blocks:
            body = sse.frame(blocks[0]) if len(blocks) == 1 else b"".join(map(sse.frame, blocks))
            if self._head:
                body, self._head = self._head + body, b""
        elif is_last:
            body = b""
        elif (position := self._queue_position()) is not None and position != self._told:
            body, self._told = sse.queue_comment(position), position
        elif self._loop.time() - self._sent_at >= self._ping_s:
            body = sse.PING
        else:
            return
        del blocks
        self._sent_at, self._is_sending = self._loop.time(), True
        try:
            await self._send({"type": "http.response.body", "body": body, "more_body": not is_last})
        finally:
            self._is_sending = False

    def cut_if_stuck(self) -> None:
        """Cut the connection if a write is waiting for the client."""
        if self._is_sending and self._abort is not None:
            self._abort()

    def close(self) -> None:
        """Send no more pings."""
        self._timer.cancel()

    def _beat(self) -> None:
        """Wakes the pump when nothing was sent for the ping time."""
        rest_s = self._ping_s - (self._loop.time() - self._sent_at)
        if rest_s <= 0:
            self._wake()
            rest_s = self._ping_s
        self._timer = self._loop.call_later(rest_s, self._beat)
