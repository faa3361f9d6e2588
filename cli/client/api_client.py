"""An HTTP client of Baton's API that fails over between several URLs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from cli.client.endpoint import Endpoint
from cli.client.proxies import open_client
from cli.errors import CommandError
from cli.exit_codes import ExitCode

#: Three times the server's default ping interval: a stream that is silent for longer is broken.
_READ_TIMEOUT_S = 45.0
_CONNECT_TIMEOUT_S = 5.0
#: Statuses that mean "not now": another replica, or the same one later, may succeed.
RETRYABLE = frozenset({429, 502, 503})


class Unreachable(CommandError):
    """Raised when no URL answers."""

    def __init__(self, urls: tuple[str, ...], error: Exception) -> None:
        super().__init__(
            f"no answer from {' or '.join(urls)} ({error}); is `baton up` running?", ExitCode.UNREACHABLE
        )


class ConnectionLost(CommandError):
    """Raised when a connection breaks before the response or stream is complete."""

    def __init__(self, why: str) -> None:
        super().__init__(why, ExitCode.UNREACHABLE)


class ApiError(CommandError):
    """Raised when the API returns an error. `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message, _exit_code(status))
        self.status = status


class ApiClient:
    """Starts with the first URL and stays with the one that answered last."""

    def __init__(
        self,
        endpoint: Endpoint,
        transport: httpx.BaseTransport | None = None,
        *,
        read_timeout_s: float = _READ_TIMEOUT_S,
        connect_timeout_s: float = _CONNECT_TIMEOUT_S,
    ) -> None:
        self._urls = endpoint.urls
        self._current = 0
        headers = {"authorization": f"Bearer {endpoint.api_key}"} if endpoint.api_key else {}
        timeout = httpx.Timeout(read_timeout_s, connect=connect_timeout_s)
        self._http = open_client(endpoint.urls, headers=headers, timeout=timeout, transport=transport)

    def __enter__(self) -> ApiClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def use_next_url(self) -> None:
        """Switch to the next URL."""
        self._current = (self._current + 1) % len(self._urls)

    def call(self, method: str, path: str, **options: Any) -> Any:
        """The response's JSON. Raises ApiError, Unreachable, and ConnectionLost if the response is cut short."""
        with self.open(method, path, **options) as response:
            return _json(response)

    @contextmanager
    def open(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        """A response from the first URL that answers; its body has not been read yet.

        Raises ApiError and Unreachable. Reading the body may raise httpx.TransportError.
        """
        response = self._send(method, path, options)
        try:
            if response.status_code >= 400:
                response.read()
                raise ApiError(response.status_code, _message(response))
            yield response
        finally:
            response.close()

    def _send(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        for _ in self._urls:
            try:
                request = self._http.build_request(method, self._urls[self._current] + path, **options)
                return self._http.send(request, stream=True)
            except (ValueError, httpx.LocalProtocolError) as error:
                # NaN, bytes that are not UTF-8, or a non-ASCII header: the command line is wrong.
                raise CommandError(f"the request cannot be sent: {error}", ExitCode.USAGE) from error
            except httpx.TransportError as error:
                failure = error
                self.use_next_url()
        raise Unreachable(self._urls, failure) from failure


def _json(response: httpx.Response) -> Any:
    """Raises ApiError if the body is not JSON, and ConnectionLost if it is incomplete."""
    try:
        return json.loads(response.read() or b"null")
    except ValueError as error:
        raise ApiError(
            response.status_code, f"{response.request.url} did not return JSON; is this Baton's API?"
        ) from error
    except httpx.TransportError as error:
        raise ConnectionLost(str(error) or type(error).__name__) from error


def _message(response: httpx.Response) -> str:
    """The message of an error in OpenAI's format, or else the status line."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{response.request.url} returned {response.status_code} {response.reason_phrase}"


def _exit_code(status: int) -> ExitCode:
    if status in (401, 403):
        return ExitCode.UNAUTHORIZED
    if status in (404, 410):
        return ExitCode.NOT_FOUND
    if status in RETRYABLE:
        return ExitCode.UNREACHABLE
    return ExitCode.USAGE if status < 500 else ExitCode.FAILED
