"""Errors: what goes wrong while a request is served, and the responses that tell the client."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any, Protocol

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from shared.domain.events import Cancelled, Completed, Expired, Failed, Incomplete
from shared.errors import (
    BrokerUnavailable,
    DecodeError,
    ErrorInfo,
    KeyReused,
    RequestError,
    ScriptFailed,
    StorageFull,
    StoreUnavailable,
    TooManyJobs,
)

logger = logging.getLogger(__name__)

#: Where a response leaves its error's code for logs and metrics: a name in the ASGI scope's state.
ERROR_CODE = "error_code"

#: Seconds after which a client may repeat a request that got 429 or 503.
RETRY_AFTER_S = 2
#: Errors after which a client may repeat its request. A 503 says that nothing was done, or that it may be done again.
_REPEATABLE = (408, 429, 503)
#: Methods that a route may have.
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


UNAVAILABLE = ErrorInfo("Redis does not answer. Try again.", code="store_unavailable", status=503)
_BROKER_UNAVAILABLE = ErrorInfo(
    "Celery's broker does not answer, so no worker would start the request. Try again.",
    code="broker_unavailable",
    status=503,
)


class ClientGone(RequestError):
    """Raised when the client closed its connection."""

    def __init__(self) -> None:
        super().__init__(ErrorInfo("The client disconnected.", "invalid_request_error", status=499))


class ShuttingDown(RequestError):
    """Raised when this replica stops. The job can be read from another replica."""

    def __init__(self) -> None:
        message = "This replica is stopping. Repeat the request, or read its job at another replica."
        super().__init__(ErrorInfo(message, code="shutting_down", status=503))


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
    """Raised when events are missing in a job's stream."""

    def __init__(self, job_id: str) -> None:
        super().__init__(ErrorInfo(f"The events of {job_id} are damaged.", code="stream_corrupt"))


class EventUnreadable(RequestError):
    """Raised when a job's stream holds output that this version of Baton cannot read: another replica can."""

    def __init__(self, job_id: str) -> None:
        message = f"This replica cannot read the events of {job_id}. Reconnect to continue at another one."
        super().__init__(ErrorInfo(message, code="event_unreadable", status=503))


class Unsettled(RequestError):
    """Raised when Redis does not say whether it stored a new job."""

    def __init__(self, job_id: str, *, has_key: bool) -> None:
        rest = (
            "Repeat the request with the same Idempotency-Key."
            if has_key
            else "If it was stored, it will be cancelled. Repeat the request."
        )
        message = f"Redis does not say whether it stored {job_id}. {rest}"
        super().__init__(ErrorInfo(message, code=UNAVAILABLE.code, status=503))
        self.job_id = job_id


_CANCELLED: dict[str, ErrorInfo] = {
    "client": ErrorInfo("The job was cancelled.", "invalid_request_error", code="job_cancelled", status=409),
    "deadline": ErrorInfo("The job did not end in time.", code="deadline_exceeded", status=504),
    "reader_gone": ErrorInfo(
        "The job was cancelled because nobody read it.",
        "invalid_request_error",
        code="reader_gone",
        status=409,
    ),
}
_EXPIRED = ErrorInfo("The job was not started in time.", code="job_expired", status=504)


def no_worker(model: str) -> RequestError:
    """503: no living worker serves the model."""
    message = f"No worker serves the model '{model}' now. Start one with `baton workers start`."
    return RequestError(ErrorInfo(message, code="no_worker", status=503))


def error_of(end: Completed | Incomplete | Failed | Cancelled | Expired) -> ErrorInfo | None:
    """What a job's end means to a client that waits for the answer; None when the answer is whole."""
    match end:
        case Failed(error):
            return error
        case Cancelled(reason):
            return _CANCELLED.get(reason, _CANCELLED["client"])
        case Expired():
            return _EXPIRED
        case Completed() | Incomplete():
            return None


def error_of_status(status: str, reason: str | None) -> ErrorInfo | None:
    """The same by a job's record, for all but `failed`."""
    if status == "cancelled":
        return error_of(Cancelled(reason or ""))
    return _EXPIRED if status == "expired" else None


def error_response(info: ErrorInfo, headers: dict[str, str] | None = None) -> Response:
    """An error with its status, in the format of the API that was called."""
    headers = dict(headers or {})
    if info.status in (429, 503):
        headers.setdefault("retry-after", str(RETRY_AFTER_S))
    return _ErrorResponse(info, headers)


class _ErrorResponse(Response):
    """Formats the error once it is known which path was called, and passes its code to logs and metrics."""

    def __init__(self, info: ErrorInfo, headers: dict[str, str]) -> None:
        super().__init__(status_code=info.status)
        self._info = info
        self._given = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        info, headers = self._info, self._given
        state = scope.setdefault("state", {})
        state[ERROR_CODE] = info.code or info.type
        if info.status not in _REPEATABLE and (info.status == HTTPStatus.CONFLICT or "job_id" in state):
            # Clients of OpenAI and Anthropic repeat every 408, 409, 429 and 5xx. Here that would be the same again, or
            # the work of a job that has ended.
            headers = {**headers, "x-should-retry": "false"}
        dialect = _dialect_of(scope)
        body = {"error": info.to_json()} if dialect is None else dialect.error(info)
        await JSONResponse(body, info.status, headers)(scope, receive, send)


class _FormatsErrors(Protocol):
    """A dialect, as far as it is needed here."""

    def error(self, info: ErrorInfo) -> dict[str, Any]: ...


def _dialect_of(scope: Scope) -> _FormatsErrors | None:
    dialects = getattr(getattr(scope.get("app"), "state", None), "dialects", None)
    found: _FormatsErrors | None = None if dialects is None else dialects.of_path(scope["path"])
    return found


_KEY_REUSED = ErrorInfo(
    "This Idempotency-Key was used for a different request.",
    "invalid_request_error",
    "Idempotency-Key",
    "idempotency_key_reused",
    409,
)
_TOO_MANY_JOBS = ErrorInfo(
    "This API key has as many open jobs as this server allows. Try again when some have ended.",
    "invalid_request_error",
    code="rate_limit_exceeded",
    status=429,
)
_OWNER_STORAGE_FULL = ErrorInfo(
    "The jobs of this API key take as much memory as this server allows. Delete jobs that have ended (DELETE"
    " /v1/jobs/{id}), or wait until their retention ends.",
    "invalid_request_error",
    code="storage_limit_exceeded",
    status=429,
)
_STORAGE_FULL = ErrorInfo(
    "The stored jobs take as much memory as this server allows. Try again later: jobs are removed when their retention"
    " ends (BATON_RETENTION_S, BATON_MAX_STORED_MB).",
    code="storage_full",
    status=503,
)
_UNREADABLE = ErrorInfo(
    "This replica cannot read the stored job, which another version of Baton may have written. Try again to reach"
    " another replica.",
    code="job_unreadable",
    status=503,
)
_DAMAGED = ErrorInfo("The stored data of this job are damaged.", code="job_damaged")
INTERNAL = ErrorInfo("The server failed to process the request.", code="internal_error")


def install_error_handlers(app: FastAPI) -> None:
    """Turn every exception that a route may raise into an error response."""
    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(StoreUnavailable, _store_unavailable)
    app.add_exception_handler(BrokerUnavailable, _broker_unavailable)
    app.add_exception_handler(KeyReused, _key_reused)
    app.add_exception_handler(TooManyJobs, _too_many_jobs)
    app.add_exception_handler(StorageFull, _storage_full)
    app.add_exception_handler(DecodeError, _decode_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation_error)


async def _request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    if isinstance(error, Unsettled):
        request.state.job_id = error.job_id
    return error_response(error.info)


async def _store_unavailable(_: Request, error: Exception) -> Response:
    logger.warning("store: %s", error)
    return error_response(_DAMAGED if isinstance(error, ScriptFailed) else UNAVAILABLE)


async def _broker_unavailable(_: Request, error: Exception) -> Response:
    logger.warning("%s", error)
    return error_response(_BROKER_UNAVAILABLE)


async def _key_reused(_: Request, error: Exception) -> Response:
    assert isinstance(error, KeyReused)
    return error_response(_KEY_REUSED)


async def _too_many_jobs(_: Request, error: Exception) -> Response:
    assert isinstance(error, TooManyJobs)
    return error_response(_TOO_MANY_JOBS)


async def _storage_full(_: Request, error: Exception) -> Response:
    assert isinstance(error, StorageFull)
    return error_response(_OWNER_STORAGE_FULL if error.of_owner else _STORAGE_FULL)


async def _decode_error(_: Request, error: Exception) -> Response:
    logger.error("%s", error)
    return error_response(_UNREADABLE)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    # Not `request.url`, which contains the Host header as it was sent.
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
    """FastAPI's own checks of path and query; dialects check bodies."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    info = ErrorInfo(
        first["msg"], "invalid_request_error", str(first["loc"][-1]), "invalid_value", HTTPStatus.BAD_REQUEST
    )
    return error_response(info)
