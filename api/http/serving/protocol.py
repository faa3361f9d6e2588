"""Connection: uvicorn's HTTP/1.1 protocol with limits on what a client may send, and may leave unread.

The app can cut the connection.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from api.http.serving.abort import ABORT
from api.http.serving.flow import Flow
from api.http.serving.sockets import set_options
from api.http.serving.stall_guard import StallGuard
from shared.errors import ErrorInfo

#: Bytes of a request's line and headers together, trailers included.
MAX_HEAD_BYTES = 64 * 1024
#: Header lines of a request.
MAX_HEADERS = 128
#: Requests that may wait on a connection while another one is answered. If a client sends more, they are read later.
MAX_WAITING = 16
#: Bytes of these requests' bodies together.
_MAX_WAITING_BYTES = 64 * 1024
#: Bytes that the parser gets at once where requests may begin. It cannot be stopped, so as many more requests may wait
#: as fit in here.
_PARSED_AT_ONCE = 1024
#: Bytes that this process buffers for a client besides the system, before a write has to wait.
_MAX_UNWRITTEN_BYTES = 16 * 1024
#: Seconds for which the rest of a request that was answered early is read and discarded. If the connection were closed
#: at once, it would be reset, and its client might never see the response.
_LINGER_S = 2.0


class Connection(HttpToolsProtocol):
    """One connection of one client."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        receipt_s: float,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._receipt_s = receipt_s
        #: Bytes read of a head that is not complete; None: no head is being read.
        self._unread_head: int | None = None
        self._head_bytes = 0
        self._is_head_too_large = False
        self._is_refused = False
        #: Whether a request's head was read and its body was not, and how much is left of a body of known length.
        self._is_in_body = False
        self._body_left = 0
        #: The request that is being answered. uvicorn's `cycle` is the last one that was read.
        self._answered: RequestResponseCycle | None = None
        #: What the parser gets once fewer requests wait.
        self._unparsed = b""
        self._timer: asyncio.TimerHandle | None = None

    # The transport's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self.flow = Flow(transport, lambda: not self._unparsed)
        self._stall_guard = StallGuard(transport, self.loop)
        transport.set_write_buffer_limits(_MAX_UNWRITTEN_BYTES)
        set_options(transport.get_extra_info("socket"))
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stall_guard.stop()
        self._unparsed = b""
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_guard.watch()

    def resume_writing(self) -> None:
        self._stall_guard.stop()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        self._unparsed += data
        self._parse()

    def _parse(self) -> None:
        """Give the parser what it may have now, and read more if that is all there is."""
        while self._unparsed and not self._is_full:
            size = max(_PARSED_AT_ONCE, self._body_left)
            part, self._unparsed = self._unparsed[:size], self._unparsed[size:]
            self._feed(part)
        if self.transport.is_closing():
            return
        if self._unparsed:
            self.flow.pause_reading()
        elif self.cycle is None or len(self.cycle.body) <= HIGH_WATER_LIMIT:
            self.flow.resume_reading()

    @property
    def _is_full(self) -> bool:
        """Whether as many requests wait as may."""
        num_bytes = sum([len(cycle.body) for cycle, _ in self.pipeline])
        return len(self.pipeline) >= MAX_WAITING or num_bytes > _MAX_WAITING_BYTES

    def _feed(self, data: bytes) -> None:
        if self._is_refused or self.transport.is_closing():
            return
        if self._unread_head is None and not self._is_in_body:
            # Also for line ends between two requests: they must not keep a connection open.
            self._await_head()
        if self._unread_head is not None:
            self._unread_head += len(data)
        super().data_received(data)
        if not self._is_refused and self._unread_head is not None and self._unread_head > MAX_HEAD_BYTES:
            self._refuse(431, "The request's headers are too large.")

    # The parser's side

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._unread_head is None:
            self._await_head()
        self._head_bytes = 0
        self.scope["extensions"] = {ABORT: {"call": self.transport.abort}}

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(name, value)

    def _count(self, *parts: bytes) -> None:
        self._head_bytes += sum(map(len, parts))
        if self._head_bytes > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self._is_head_too_large = True
            raise ValueError  # stops the parser, which then calls `send_400_response`

    def on_headers_complete(self) -> None:
        self._unread_head = None
        self._stop_timer()
        self._is_in_body = True
        self._body_left = next((int(value) for name, value in self.headers if name == b"content-length"), 0)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_left = max(0, self._body_left - len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_in_body, self._body_left = False, 0
        super().on_message_complete()
        if self.cycle.response_complete:
            self._stop_timer()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def send_400_response(self, msg: str) -> None:
        """Respond to what is not HTTP, or has too large a head."""
        if self._is_head_too_large:
            self._refuse(431, "The request's headers are too large.")
        else:
            self._refuse(400, msg)

    # The app's side

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        if cycle.scope["http_version"] == "1.0":
            app = _Unchunked(app, cycle)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            # It is closed once the client has read the rest.
            self._stall_guard.watch()
            return
        if self._is_in_body and self.cycle.response_complete:
            self._unset_keepalive_if_required()
            self._linger()
        self._parse()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: a client may ask for another protocol, and gets this one."""

    # Time

    def _await_head(self) -> None:
        self._unread_head = 0
        self._start_timer(self._receipt_s, self._give_up_head)

    def _give_up_head(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._close()
        else:
            # A response is still being sent: the timer of the next request must not end it.
            self._start_timer(self._receipt_s, self._give_up_head)

    def _linger(self) -> None:
        self._start_timer(_LINGER_S, self._close)

    def _close(self) -> None:
        """Close the connection once the client has read what was written."""
        self.transport.close()
        self._stall_guard.watch()

    def _start_timer(self, seconds: float, act: Any) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, act)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int, message: str) -> None:
        self._is_refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            if self.cycle.response_started or not self._is_in_body:
                # This response cannot be sent within another one or before it.
                self.transport.close()
                return
            # The app waits for a body that is not one.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        error = ErrorInfo(message, "invalid_request_error", status=status)
        body = json.dumps({"error": error.to_json()}).encode()
        head = f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.write_eof()
        self._linger()


class _Unchunked:
    """ASGI around the app for HTTP/1.0 clients, which do not know chunks: a body without a length ends with the
    connection (RFC 9112, 6.1). uvicorn would send chunks."""

    def __init__(self, app: ASGIApp, cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_unchunked(message: Message) -> None:
            self._cycle.chunked_encoding = False
            if message["type"] == "http.response.body":
                self._cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await self._app(scope, receive, send_unchunked)
