"""HttpReply: a response as it came, and what is wrong with it."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any

#: Errors that tell the truth: the system cannot serve now, or its backend never can.
_HONEST = {
    (503, code) for code in ("store_unavailable", "no_worker", "shutting_down", "broker_unavailable")
} | {(501, "not_supported")}
_MAX_ERROR_BYTES = 4096


@dataclass(frozen=True, slots=True)
class HttpReply:
    """One response. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> Any:
        """What stands under `error`; None if it has another form."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return None
        return found["error"] if isinstance(found, dict) and list(found) == ["error"] else None

    def wrong(self, *, has_body: bool = True) -> str | None:
        """Say what must not be. None: all is well."""
        if self.status < 400:
            return None
        if not has_body:
            return f"status {self.status}" if self.status >= 500 else None
        error = self.error
        if not isinstance(error, dict) or list(error) != ["message", "type", "param", "code"]:
            return f"{self.status} without the error's form"
        if self.status >= 500 and (self.status, error["code"]) not in _HONEST:
            return f"status {self.status} with the code {error['code']}"
        if not isinstance(error["message"], str) or not error["message"] or len(self.body) > _MAX_ERROR_BYTES:
            return f"{self.status} without a message, or a very long one"
        if self.status == 400 and error["code"] is not None and error["param"] is None:
            return f"400 with the code {error['code']} names no field"
        if self.status in (429, 503) and "retry-after" not in self.headers:
            return f"{self.status} without Retry-After"
        return None


class ConnectionEnded(Exception):
    """Raised when the server ends the connection before a whole response has come."""


def exchange(
    address: tuple[str, int], raw: bytes, *, is_cut: bool, has_body: bool, within_s: float
) -> HttpReply:
    """Send bytes on a new connection and read one response. Raises ConnectionEnded and TimeoutError."""
    with socket.create_connection(address, timeout=within_s) as connection:
        try:
            connection.sendall(raw)
            if is_cut:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server has refused already: its response may still be read
        try:
            return _read(connection, has_body=has_body)
        except ConnectionError as error:
            raise ConnectionEnded from error


def _read(connection: socket.socket, *, has_body: bool) -> HttpReply:
    status, headers, rest = _head(connection, b"")
    while status == 100:
        status, headers, rest = _head(connection, rest)
    if not has_body or status in (204, 304):
        return HttpReply(status, headers, b"")
    if "content-length" in headers:
        while len(rest) < int(headers["content-length"]):
            rest += _more(connection)
    elif headers.get("transfer-encoding") == "chunked":
        while b"\r\n0\r\n\r\n" not in b"\r\n" + rest[-64:]:
            rest += _more(connection)
    else:
        while piece := connection.recv(65_536):
            rest += piece
    return HttpReply(status, headers, rest)


def _head(connection: socket.socket, received: bytes) -> tuple[int, dict[str, str], bytes]:
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, rest = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(first.split()[1]), {name.lower(): text.strip() for name, _, text in pairs}, rest


def _more(connection: socket.socket) -> bytes:
    received = connection.recv(65_536)
    if not received:
        raise ConnectionEnded
    return received
