"""SseResponse: sends what a subscription takes, by bare ASGI: one write for all that is pending."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.errors import ClientGone, ShuttingDown
from api.metrics.stream_timer import StreamTimer, has_tokens
from api.streaming import sse
from api.streaming.cursor import Cursor
from api.streaming.subscription import Subscription
from api.streaming.updates import Update
from shared.errors import ErrorInfo, RequestError

#: A write that a client does not take for this long ends its connection.
_STALL_S = 30.0
#: How late that may be noticed.
_LATE_S = 1.0
#: ASGI extension of our server: cuts the connection (api/http/server.py).
ABORT = "baton.abort"


class View(Protocol):
    """How news look on the wire."""

    def encode(self, news: list[Update]) -> bytes: ...

    def error(self, error: ErrorInfo, cursor: Cursor) -> str: ...


class SseResponse(Response):
    """A stream of server-sent events that ends with the job, and else never cleanly.

    A clean end without `[DONE]` would be a truncation that stock clients take for the whole: a stream that
    cannot go on is left incomplete, upon which the server closes the connection.
    """

    def __init__(
        self,
        subscription: Subscription,
        view: View,
        ping_s: float,
        *,
        first: list[Update],
        headers: dict[str, str],
        meter: StreamTimer | None = None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({**sse.HEADERS, **headers})
        self._subscription = subscription
        self._view = view
        self._ping_s = ping_s
        self._first = first
        self._meter = meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send until the job's end. Who watches the client (`watch_client`) ends the subscription."""
        abort = scope.get("extensions", {}).get(ABORT, {}).get("call")
        pulse = _Pulse(self._subscription, self._ping_s, abort)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            # A task of its own: each piece of news would else wake the two dozen coroutines around this one.
            await asyncio.create_task(self._send_all(send, pulse))
        except (ClientGone, ShuttingDown):
            pass  # incomplete: the server closes the connection
        except RequestError as error:
            block = self._view.error(error.info, self._subscription.cursor)
            await send({"type": "http.response.body", "body": block.encode(), "more_body": False})
        finally:
            pulse.stop()
            self._subscription.close()

    async def _send_all(self, send: Send, pulse: _Pulse) -> None:
        news, head = self._first, sse.RETRY
        while True:
            body = self._view.encode(news)
            if body and head:
                body, head = head + body, b""
            is_over, is_output = bool(news) and news[-1].is_end, has_tokens(news)
            is_due = body or is_over or (not news and pulse.is_due())
            # A client that is slow to take this has no need of what it was made of.
            self._first = news = []
            if is_due:
                await pulse.sending(send(_body(body or sse.PING, is_over)))
            if is_output and self._meter is not None:
                self._meter.sent()
            if is_over:
                return
            news = await self._subscription.take()


def _body(body: bytes, is_over: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": not is_over}


class _Pulse:
    """Wakes the stream when nothing was sent for the ping time, and cuts one whose client takes nothing."""

    def __init__(
        self, subscription: Subscription, period_s: float, abort: Callable[[], object] | None
    ) -> None:
        self._subscription = subscription
        self._period_s = period_s
        self._abort = abort
        self._loop = asyncio.get_running_loop()
        self._sent_at = self._loop.time()
        self._is_sending = False
        self._timer = self._loop.call_later(period_s, self._beat)
        subscription.on_fail(self._cut_if_stuck)

    def is_due(self) -> bool:
        """Whether a ping should be sent now."""
        return self._loop.time() - self._sent_at >= self._period_s

    async def sending(self, write: Any) -> None:
        """Await a write, under watch."""
        self._sent_at, self._is_sending = self._loop.time(), True
        try:
            await write
        finally:
            self._is_sending = False

    def _beat(self) -> None:
        quiet_s = self._loop.time() - self._sent_at
        if quiet_s > _STALL_S:
            self._cut_if_stuck()
        rest_s = self._period_s - quiet_s
        if rest_s <= 0:
            self._subscription.wake()
            rest_s = self._period_s
        if self._is_sending:
            rest_s = min(rest_s, max(_STALL_S - quiet_s, 0) + _LATE_S)
        self._timer = self._loop.call_later(rest_s, self._beat)

    def _cut_if_stuck(self) -> None:
        if self._is_sending and self._abort is not None:
            self._abort()

    def stop(self) -> None:
        self._timer.cancel()


def watch_client(subscription: Subscription, receive: Receive) -> None:
    """End the following when the client closes its connection. The request's body must be read already."""

    async def watch() -> None:
        with suppress(RequestError):  # of a body that nobody asked for
            while (await receive())["type"] != "http.disconnect":
                pass
        subscription.fail(ClientGone())

    subscription.on_close(asyncio.create_task(watch()).cancel)
