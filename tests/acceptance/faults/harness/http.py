"""HTTP/1.1 as cheap as it can be: a load on two cores should measure and strain the server, not itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

_LIMIT = 1 << 20


class Unreachable(Exception):
    """Raised when a connection cannot be made, breaks, ends too early or takes too long."""


@dataclass(frozen=True)
class Answer:
    """An answer: whole, or its head while `lines` are read."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Reading:
    """An answer whose body is being read."""

    def __init__(self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.answer = answer
        self._reader = reader
        self._writer = writer
        #: Bytes of a body that is not chunked.
        self._left = int(answer.headers.get("content-length", 0))

    def abandon(self) -> None:
        """Leave without a word."""
        self._writer.transport.abort()

    async def whole(self, silence_s: float) -> Answer:
        """With all of its body. Raises Unreachable."""
        return replace(self.answer, body=b"".join([piece async for piece in self.pieces(silence_s)]))

    async def pieces(self, silence_s: float) -> AsyncIterator[bytes]:
        """The body as it comes. Raises Unreachable when it breaks off or is silent for so long."""
        try:
            while True:
                async with asyncio.timeout(silence_s):
                    piece = await self._piece()
                if not piece:
                    return
                yield piece
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            raise Unreachable(type(error).__name__) from error

    async def _piece(self) -> bytes:
        """Empty at the end of the body."""
        if self.answer.headers.get("transfer-encoding") == "chunked":
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            return (await self._reader.readexactly(size + 2))[:-2]
        length, self._left = self._left, 0
        return await self._reader.readexactly(length)


@asynccontextmanager
async def opened(
    method: str,
    url: str,
    path: str,
    *,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    within_s: float = 30,
) -> AsyncIterator[Reading]:
    """Ask, and read the head of the answer within a time. Raises Unreachable."""
    target = urlsplit(url)
    payload = b"" if body is None else json.dumps(body).encode()
    fields = {"host": target.netloc, "connection": "close", **(headers or {})}
    if body is not None:
        fields |= {"content-type": "application/json", "content-length": str(len(payload))}
    elif method == "POST":
        fields["content-length"] = "0"
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n"
    writer = None
    try:
        try:
            async with asyncio.timeout(within_s):
                reader, writer = await asyncio.open_connection(target.hostname, target.port, limit=_LIMIT)
                writer.write(head.encode() + payload)
                answer = _head((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
        except (OSError, EOFError, TimeoutError) as error:
            raise Unreachable(type(error).__name__) from error
        yield Reading(answer, reader, writer)
    finally:
        if writer is not None:
            writer.transport.abort()


async def fetch(
    method: str,
    url: str,
    path: str,
    *,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    within_s: float = 30,
) -> Answer:
    """A whole answer. Raises Unreachable."""
    async with opened(method, url, path, body=body, headers=headers, within_s=within_s) as reading:
        return await reading.whole(within_s)


def _head(text: str) -> Answer:
    line, *lines = text.split("\r\n")
    pairs = (field.partition(":") for field in lines if field)
    return Answer(int(line.split()[1]), {name.lower(): value.strip() for name, _, value in pairs})
