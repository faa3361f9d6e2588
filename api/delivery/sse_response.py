"""SseResponse: a stream of server-sent events as an ASGI response."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.delivery import sse
from api.delivery.pump import pump
from api.delivery.sse_sink import SseSink
from api.dialects.base import Encoder
from api.errors import ClientGone, ShuttingDown
from api.http.serving.abort import ABORT
from api.streaming.subscription import Subscription
from api.streaming.updates import Update
from shared.errors import RequestError


class SseResponse(Response):
    """A stream that ends with its job. A stream that cannot be continued never ends cleanly.

    Clients would take a clean end without `[DONE]` for the end of the answer. So the response is left incomplete, and
    the server then closes the connection.
    """

    def __init__(
        self,
        subscription: Subscription,
        encoder: Encoder,
        ping_s: float,
        *,
        first: list[Update],
        retries: bool,
        comments_queue: bool = False,
        on_output: Callable[[], object] = lambda: None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(sse.HEADERS)
        self._subscription = subscription
        self._encoder = encoder
        self._ping_s = ping_s
        self._first = first
        self._retries = retries
        self._comments_queue = comments_queue
        self._on_output = on_output

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send until the job's end. `watch_client` ends the subscription when the client leaves."""
        subscription, encoder = self._subscription, self._encoder
        abort = scope.get("extensions", {}).get(ABORT, {}).get("call")
        sink = SseSink(
            send,
            self._ping_s,
            wake=subscription.wake,
            abort=abort,
            retries=self._retries,
            queue_position=lambda: subscription.queue_position if self._comments_queue else None,
        )
        subscription.on_fail(sink.cut_if_stuck)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            # A task of its own: otherwise each update would wake the two dozen coroutines around this one.
            await asyncio.create_task(pump(subscription, encoder, sink, self._first, self._on_output))
        except (ClientGone, ShuttingDown):
            pass  # incomplete: the server closes the connection
        except RequestError as error:
            await sink.write([encoder.error(error.info, subscription.cursor)], is_last=True)
        finally:
            sink.close()
            subscription.close()
