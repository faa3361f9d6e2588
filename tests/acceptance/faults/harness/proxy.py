"""Proxy: a TCP connection to Redis that a test may delay, cut, hold up, or rob of its replies."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["up", "down"]
_CHUNK = 65_536


@dataclass(eq=False)
class _Link:
    """One client's connection and the one behind it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    pumps: list[asyncio.Task[None]] = field(default_factory=list)


class Proxy:
    """Listens on a port of 127.0.0.1 for a server on a Unix socket. `up` is towards the server."""

    def __init__(self, target: str, *, seed: int = 0) -> None:
        self._target = target
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._open = {direction: asyncio.Event() for direction in ("up", "down")}
        for gate in self._open.values():
            gate.set()
        self._latency_s = (0.0, 0.0)
        self._to_swallow = 0
        self.port = 0
        #: Replies that were swallowed: the operation was done, nobody was told.
        self.num_swallowed = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_CHUNK)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        pumps = [pump for link in self._links for pump in link.pumps]
        self.cut()
        await asyncio.gather(*pumps, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    # What goes wrong

    def delay(self, least_s: float, most_s: float) -> None:
        """Every piece of data, either way, takes so long."""
        self._latency_s = (least_s, most_s)

    def cut(self) -> None:
        """End all connections with RST."""
        for link in list(self._links):
            self._reset(link)

    def hold(self, *directions: Direction) -> None:
        """A black hole: nothing comes through, connections stay. What is on its way arrives after `heal`."""
        for direction in directions:
            self._open[direction].clear()

    def swallow(self, replies: int) -> None:
        """Cut a connection instead of handing on a reply, so many times: the operation was done."""
        self._to_swallow = replies

    def heal(self) -> None:
        self._latency_s, self._to_swallow = (0.0, 0.0), 0
        for gate in self._open.values():
            gate.set()

    # Carrying

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind, server = await asyncio.open_unix_connection(self._target, limit=_CHUNK)
        except OSError:
            return _abort(writer)
        link = _Link(writer, server)
        self._links.add(link)
        link.pumps = [
            asyncio.create_task(self._pump(link, reader, server, "up")),
            asyncio.create_task(self._pump(link, behind, writer, "down")),
        ]

    async def _pump(
        self, link: _Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter, direction: Direction
    ) -> None:
        with suppress(OSError):
            while piece := await source.read(_CHUNK):
                await self._open[direction].wait()
                if any(self._latency_s):
                    await asyncio.sleep(self._random.uniform(*self._latency_s))
                if direction == "down" and self._to_swallow and piece.startswith((b"*", b"$", b":", b"+")):
                    self._to_swallow -= 1
                    self.num_swallowed += 1
                    break
                sink.write(piece)
                await sink.drain()
        self._reset(link)

    def _reset(self, link: _Link) -> None:
        if link not in self._links:
            return
        self._links.remove(link)
        _abort(link.client)
        _abort(link.server)
        for pump in link.pumps:
            if pump is not asyncio.current_task():
                pump.cancel()


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close at once; to a TCP peer with RST."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0 and sock.family == socket.AF_INET:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
