"""Errors: one root, and ErrorInfo, the form in which an error travels to a client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class BatonError(Exception):
    """Root of every error that Baton raises on purpose."""


class DecodeError(BatonError):
    """Raised when something read from Redis is not what Baton writes; `raw` holds what was read."""

    def __init__(self, what: str, raw: object) -> None:
        super().__init__(f"cannot decode {what}")
        self.raw = raw


class StoreUnavailable(BatonError):
    """Raised when Redis does not answer, or refuses to write."""


class KeyReused(BatonError):
    """Raised when a request's key stands for another request already."""


class TooManyJobs(BatonError):
    """Raised when an owner has as many jobs open as one may have."""


class SettingsError(BatonError):
    """Raised when a setting is unknown or has an unusable value; the message names the variable."""


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error as a client sees it, in OpenAI's form, with the HTTP status that belongs to it."""

    message: str
    type: str = "server_error"
    param: str | None = None
    code: str | None = None
    status: int = 500

    def to_json(self) -> dict[str, Any]:
        """The object under `error`: all four keys, always."""
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}


class RequestError(BatonError):
    """Raised when a request cannot be served as it stands; carries what its client is told."""

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(info.message)
        self.info = info


def invalid_request(
    message: str, *, param: str | None = None, code: str | None = None, status: int = 400
) -> RequestError:
    """A RequestError for a fault of the client's."""
    return RequestError(ErrorInfo(message, "invalid_request_error", param, code, status))


def invalid_value(param: str, why: str) -> RequestError:
    """A RequestError for a field whose value cannot be taken."""
    return invalid_request(f"Invalid value for '{param}': {why}.", param=param, code="invalid_value")
