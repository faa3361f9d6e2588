"""Errors: what goes wrong while a request is served, and the OpenAI form in which its client learns of it."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from api.http.request_record import ERROR_CODE
from shared.domain.events import Cancelled, CancelReason, Completed, Expired, Failed, Incomplete
from shared.errors import DecodeError, ErrorInfo, KeyReused, RequestError, StoreUnavailable, TooManyJobs

logger = logging.getLogger(__name__)

#: Seconds after which a client may try again what was answered with 429 or 503.
RETRY_AFTER_S = 2
#: Those that a route may have.
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


class ClientGone(RequestError):
    """Raised when the client closed its connection: nobody reads the answer."""

    def __init__(self) -> None:
        super().__init__(ErrorInfo("The client went away.", "invalid_request_error", status=499))


class ShuttingDown(RequestError):
    """Raised when this replica has to stop; the job goes on, another replica has it."""

    def __init__(self) -> None:
        super().__init__(
            ErrorInfo("This replica is stopping; the job goes on.", code="shutting_down", status=503)
        )


class StreamExpired(RequestError):
    """Raised when a job's events were removed by retention."""

    def __init__(self, job_id: str) -> None:
        info = ErrorInfo(
            f"The events of {job_id} are no longer kept.",
            "invalid_request_error",
            code="stream_expired",
            status=410,
        )
        super().__init__(info)


class StreamCorrupt(RequestError):
    """Raised when a job's stream, read as a whole, does not fit together."""

    def __init__(self, job_id: str) -> None:
        super().__init__(ErrorInfo(f"The events of {job_id} are damaged.", code="stream_corrupt"))


class EventUnreadable(RequestError):
    """Raised when a job's stream holds output that this version of Baton cannot read: another replica can."""

    def __init__(self, job_id: str) -> None:
        message = f"This replica cannot read the events of {job_id}. Reconnect to continue at another one."
        super().__init__(ErrorInfo(message, code="event_unreadable", status=503))


_CANCELLED: dict[CancelReason, ErrorInfo] = {
    "client": ErrorInfo("The job was cancelled.", "invalid_request_error", code="job_cancelled", status=409),
    "deadline": ErrorInfo("The job did not end in time.", code="deadline_exceeded", status=504),
    "reader_gone": ErrorInfo(
        "The job was cancelled: nobody read it.", "invalid_request_error", code="reader_gone", status=409
    ),
}
_EXPIRED = ErrorInfo("The job was not started in time.", code="job_expired", status=504)

NO_WORKER = "no_worker"


def error_of(end: Completed | Incomplete | Failed | Cancelled | Expired) -> ErrorInfo | None:
    """What a job's end means for one who waits for the answer; None when the answer is whole."""
    match end:
        case Failed(error):
            return error
        case Cancelled(reason):
            return _CANCELLED[reason]
        case Expired():
            return _EXPIRED
        case Completed() | Incomplete():
            return None


def error_response(info: ErrorInfo, headers: dict[str, str] | None = None) -> Response:
    """`{"error": …}` with its status."""
    headers = dict(headers or {})
    if info.status in (429, 503):
        headers.setdefault("retry-after", str(RETRY_AFTER_S))
    return _ErrorResponse(info, headers)


class _ErrorResponse(JSONResponse):
    """Tells logs and metrics its code as well."""

    def __init__(self, info: ErrorInfo, headers: dict[str, str]) -> None:
        super().__init__({"error": info.to_json()}, info.status, headers)
        self._code = info.code or info.type

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})[ERROR_CODE] = self._code
        await super().__call__(scope, receive, send)


UNAVAILABLE = ErrorInfo("The job store does not answer.", code="store_unavailable", status=503)
_KEY_REUSED = ErrorInfo(
    "This Idempotency-Key came with another request before.",
    "invalid_request_error",
    "Idempotency-Key",
    "idempotency_key_reused",
    409,
)
_TOO_MANY_JOBS = ErrorInfo(
    "This key has as many jobs open as this server allows.",
    "invalid_request_error",
    code="rate_limit_exceeded",
    status=429,
)
INTERNAL = ErrorInfo("The server failed to handle the request.", code="internal_error")


def install_error_handlers(app: FastAPI) -> None:
    """Turn every exception that a route may raise into an answer in OpenAI's form."""
    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(StoreUnavailable, _store_unavailable)
    app.add_exception_handler(KeyReused, _key_reused)
    app.add_exception_handler(TooManyJobs, _too_many_jobs)
    app.add_exception_handler(DecodeError, _decode_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation_error)


async def _request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error_response(error.info)


async def _store_unavailable(_: Request, error: Exception) -> Response:
    logger.warning("store: %s", error)
    return error_response(UNAVAILABLE)


async def _key_reused(_: Request, error: Exception) -> Response:
    assert isinstance(error, KeyReused)
    return error_response(_KEY_REUSED)


async def _too_many_jobs(_: Request, error: Exception) -> Response:
    assert isinstance(error, TooManyJobs)
    return error_response(_TOO_MANY_JOBS)


async def _decode_error(_: Request, error: Exception) -> Response:
    logger.error("%s", error)
    return error_response(INTERNAL)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    # Not `request.url`, which is put together with whatever the Host header says.
    path, headers = request.scope["path"][:200], dict(error.headers or {})
    if error.status_code == HTTPStatus.NOT_FOUND:
        message = f"Invalid URL ({request.method} {path})"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        message, headers = f"{request.method} is not allowed for {path}", {"allow": _allowed(request)}
    else:
        message = str(error.detail)
    info = ErrorInfo(message, "invalid_request_error", status=error.status_code)
    return error_response(info, headers)


def _allowed(request: Request) -> str:
    """Every method of the path (RFC 9110, 10.2.1), where Starlette names those of its first route alone."""
    return ", ".join(method for method in _METHODS if _is_allowed(request, method))


def _is_allowed(request: Request, method: str) -> bool:
    scope = {**request.scope, "method": method}
    return any(route.matches(scope)[0] == Match.FULL for route in request.app.routes)


async def _validation_error(_: Request, error: Exception) -> Response:
    """FastAPI's own checks of path and query; bodies are read by api/schemas."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    info = ErrorInfo(
        first["msg"], "invalid_request_error", str(first["loc"][-1]), "invalid_value", HTTPStatus.BAD_REQUEST
    )
    return error_response(info)
