"""Server: uvicorn with bounds on heads, connections that the app can cut, and Baton's way of ending."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.event_stream import ABORT
from shared.errors import ErrorInfo

#: Bytes of a request's line and headers together; checked after each read of the socket.
_MAX_HEAD_BYTES = 64 * 1024
#: A head that has not come in whole after this is not waited for.
_HEAD_S = 15.0


class Protocol(HttpToolsProtocol):
    """One connection."""

    _head_bytes: int | None = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes is not None and self._head_bytes > _MAX_HEAD_BYTES:
            self._refuse(431, "The request's headers are too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()
        self.scope["extensions"] = {ABORT: {"call": self.transport.abort}}

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Not HTTP: answered in the form of all errors."""
        self._refuse(400, msg)

    def _await_head(self) -> None:
        self._end_head()
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(_HEAD_S, self.transport.close)

    def _end_head(self) -> None:
        self._head_bytes = None
        if self._head_timer is not None:
            self._head_timer.cancel()

    def _refuse(self, status: int, message: str) -> None:
        error = ErrorInfo(message, "invalid_request_error", status=status)
        body = json.dumps({"error": error.to_json()}).encode()
        head = f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        self._end_head()
        self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()


class Server(uvicorn.Server):
    """Told to stop, it lets streams run for the drain time and then leaves them incomplete."""

    def __init__(self, config: uvicorn.Config, *, drain_s: float, stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._drain_s = drain_s
        self._stop = stop

    async def startup(self, sockets: list[Any] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """A signal. Unlike uvicorn's own, the process then ends with 0."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
            return
        self.begin_exit()

    def begin_exit(self) -> None:
        """Accept no more, and stop what runs after the drain time. From any thread."""
        if not self.should_exit:
            self.should_exit = True
            self._loop.call_soon_threadsafe(self._loop.call_later, self._drain_s, self._stop)
