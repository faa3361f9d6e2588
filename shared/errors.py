"""Errors: the root of Baton's exceptions, and ErrorInfo, the form in which clients see an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class BatonError(Exception):
    """Base class of all errors that Baton raises on purpose."""


class DecodeError(BatonError):
    """Raised when data from Redis has an unexpected form. `raw` holds the data."""

    def __init__(self, what: str, raw: object) -> None:
        super().__init__(f"cannot decode {what}")
        self.raw = raw


def require_text(fields: Mapping[str, str]) -> None:
    """Raise UnicodeEncodeError, a ValueError, if a field was read from bytes that are not text: no JSON can show it."""
    for value in fields.values():
        value.encode()


class StoreUnavailable(BatonError):
    """Raised when Redis does not answer or refuses a call. It may accept it later."""


class ScriptFailed(StoreUnavailable):
    """Raised when a script fails on the data that it finds. It may have written a part. Another call may fail again."""


class BrokerUnavailable(StoreUnavailable):
    """Raised when the Redis that holds Celery's messages does not answer. It may be another one than the store."""


class KeyReused(BatonError):
    """Raised when a request's key already belongs to a different request."""


class TooManyJobs(BatonError):
    """Raised when an owner has reached the maximum number of open jobs."""


class StorageFull(BatonError):
    """Raised when jobs take as much of Redis as they may: those of one owner, or all of them."""

    def __init__(self, *, of_owner: bool) -> None:
        super().__init__(
            "the owner's jobs take too much memory" if of_owner else "all jobs take too much memory"
        )
        self.of_owner = of_owner


class SettingsError(BatonError):
    """Raised when a setting is unknown or has an invalid value. The message names the variable."""


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error in OpenAI's form, with its HTTP status."""

    message: str
    type: str = "server_error"
    param: str | None = None
    code: str | None = None
    status: int = 500

    def to_json(self) -> dict[str, Any]:
        """Return the object under `error`. It always has all four keys."""
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}


class RequestError(BatonError):
    """Raised when a request cannot be served. `info` is the error for the client."""

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(info.message)
        self.info = info


def invalid_request(
    message: str, *, param: str | None = None, code: str | None = None, status: int = 400
) -> RequestError:
    """Return a RequestError for a mistake of the client."""
    return RequestError(ErrorInfo(message, "invalid_request_error", param, code, status))


def invalid_value(param: str, why: str) -> RequestError:
    """Return a RequestError for a field with an invalid value."""
    return invalid_request(f"Invalid value for '{param}': {why}.", param=param, code="invalid_value")
