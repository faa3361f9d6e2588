"""Sends HTTP/1.1 POSTs and reads their responses piece by piece with as little CPU time as possible.

A client library would use more CPU time per token than the server. Here a piece costs one or two reads from a
buffer. Connections are reused, as in the official clients.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

#: Maximum length of a line or chunk.
_LIMIT = 1 << 20


class BadAnswer(Exception):
    """Raised when the response is not HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers (names in lower case) and body of a response."""

    status: int
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]


@dataclass(slots=True)
class _Open:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    is_new: bool = True
    is_reusable: bool = False


class Connections:
    """A pool of connections to one base URL, one for each concurrent request."""

    def __init__(self, base_url: str, headers: Mapping[str, str]) -> None:
        url = urlsplit(base_url)
        self._host = url.hostname or ""
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._ssl = ssl.create_default_context() if url.scheme == "https" else None
        fields = {"host": url.netloc.rpartition("@")[2], "content-type": "application/json", **headers}
        self._path = url.path.rstrip("/")
        self._fields = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._idle: list[_Open] = []

    @asynccontextmanager
    async def post(self, path: str, body: bytes) -> AsyncIterator[Answer]:
        """Raises OSError, EOFError and BadAnswer, also while the body is read."""
        head = f"POST {self._path}{path} HTTP/1.1\r\n{self._fields}content-length: {len(body)}\r\n\r\n"
        connection = self._idle.pop() if self._idle else await self._connect()
        try:
            try:
                answer = await _exchange(connection, head.encode() + body)
            except (OSError, EOFError):
                if connection.is_new:
                    raise
                # The server closed the idle connection and has not seen the request.
                connection.writer.close()
                connection = await self._connect()
                answer = await _exchange(connection, head.encode() + body)
            yield answer
        finally:
            if connection.is_reusable:
                connection.is_new, connection.is_reusable = False, False
                self._idle.append(connection)
            else:
                connection.writer.close()

    def close(self) -> None:
        for connection in self._idle:
            connection.writer.close()
        self._idle.clear()

    async def _connect(self) -> _Open:
        return _Open(*await asyncio.open_connection(self._host, self._port, ssl=self._ssl, limit=_LIMIT))


async def _exchange(connection: _Open, request: bytes) -> Answer:
    connection.writer.write(request)
    line, *lines = (await connection.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    version, _, rest = line.partition(" ")
    if version not in ("HTTP/1.1", "HTTP/1.0") or not rest[:3].isdigit():
        raise BadAnswer(f"not an HTTP/1.1 response: {line[:80]!r}")
    pairs = (field.partition(":") for field in lines if field)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return Answer(int(rest[:3]), headers, _pieces(connection, headers))


async def _pieces(connection: _Open, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    """Yields the body as it arrives. At its end, marks the connection as reusable."""
    try:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            async for piece in _chunks(connection.reader):
                yield piece
        elif "content-length" in headers:
            yield await connection.reader.readexactly(int(headers["content-length"]))
        else:
            while piece := await connection.reader.read(_LIMIT):
                yield piece
            return
    except ValueError as error:
        raise BadAnswer(f"malformed body: {error}") from error
    connection.is_reusable = headers.get("connection", "").lower() != "close"


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
