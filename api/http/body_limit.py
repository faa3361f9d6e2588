"""BodyLimitMiddleware: limits size and duration of a request's body while it is received."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import ClientGone
from shared.errors import ErrorInfo, RequestError, invalid_request


class BodyLimitMiddleware:
    """Pure ASGI. `receive` raises RequestError for a body of more than `limit` bytes (413) and for one that is not
    complete after `receipt_s` (408), and ClientGone for a client that disconnects before."""

    def __init__(self, app: ASGIApp, limit: int, receipt_s: float) -> None:
        self._app = app
        self._limit = limit
        self._receipt_s = receipt_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            receive = _Counted(scope, receive, self._limit, self._receipt_s).receive
        await self._app(scope, receive, send)


class _Counted:
    def __init__(self, scope: Scope, receive: Receive, limit: int, receipt_s: float) -> None:
        self._receive = receive
        self._limit = limit
        self._deadline = asyncio.get_running_loop().time() + receipt_s
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        self._size = 0
        self._is_too_large = len(declared) > 18 or int(declared) > limit
        self._is_whole = False

    async def receive(self) -> Message:
        if self._is_whole:
            return await self._receive()
        if self._is_too_large:
            raise self._refusal()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            info = ErrorInfo("The body did not arrive in time.", "invalid_request_error", status=408)
            raise RequestError(info) from error
        if message["type"] == "http.disconnect":
            raise ClientGone
        self._size += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._size > self._limit:
            raise self._refusal()
        return message

    def _refusal(self) -> RequestError:
        message = f"The body is larger than {self._limit} bytes."
        return invalid_request(message, code="request_too_large", status=413)
