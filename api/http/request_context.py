"""RequestContextMiddleware: gives each request an id and turns unhandled exceptions into a 500."""

from __future__ import annotations

import logging
import re
import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import INTERNAL, error_response
from api.http import ignored_parameters
from shared.runtime.logs import REQUEST_ID

logger = logging.getLogger(__name__)

#: A client's own request id is kept if it is harmless in headers and logs.
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class RequestContextMiddleware:
    """Pure ASGI. Sets `x-request-id` on every response, and the headers that routes ask for by the request's state."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        answer = _Answer(scope, send)
        REQUEST_ID.set(answer.request_id.decode())
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            logger.exception("the request failed")
            if answer.is_started:
                raise
            await error_response(INTERNAL)(scope, receive, answer.send)


class _Answer:
    def __init__(self, scope: Scope, send: Send) -> None:
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        self.request_id = given if _SANE_ID.fullmatch(given) else b"req_" + secrets.token_hex(12).encode()
        self.is_started = False
        self._send = send
        self._state = scope.setdefault("state", {})

    async def send(self, message: Message) -> None:
        if not self.is_started:
            self.is_started = True
            headers = [*message["headers"], (b"x-request-id", self.request_id)]
            if "job_id" in self._state:
                headers.append((b"x-job-id", self._state["job_id"].encode()))
            if self._state.get("is_replay"):
                headers.append((b"idempotent-replayed", b"true"))
            if ignored := self._state.get("ignored_parameters"):
                headers.append((ignored_parameters.HEADER.encode(), ignored.encode()))
            message = {**message, "headers": headers}
        await self._send(message)
