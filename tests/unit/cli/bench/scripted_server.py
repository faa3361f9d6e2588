"""A server that answers each request with scripted bytes and pauses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

#: Bytes that are sent as one piece, or seconds of silence.
Step = bytes | float
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """A piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = chunk(b"")
DONE = chunk(b"data: [DONE]\n\n") + LAST_CHUNK


def event(value: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(value).encode()


def text(words: str) -> bytes:
    """A chat chunk with this text."""
    return chunk(event({"choices": [{"index": 0, "delta": {"content": words}}]}))


def usage(completion: int, prompt: int = 9) -> bytes:
    """The last chunk of a chat, which reports its usage."""
    counts = {"completion_tokens": completion, "prompt_tokens": prompt}
    return chunk(event({"choices": [], "usage": counts}))


def whole(status: str, body: bytes) -> bytes:
    """A complete response."""
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


@dataclass
class ScriptedServer:
    """`script` returns the response to request number n. An empty one closes the connection."""

    script: Callable[[int], Sequence[Step]]
    url: str = ""
    heads: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    num_connections: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            while head := await _head(reader):
                await self._answer(head, reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client left in mid-answer, or the test is over
        finally:
            self.tasks.discard(task)
            writer.close()

    async def _answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = next(line for line in head.split("\r\n") if line.startswith("content-length: "))
        body = await reader.readexactly(int(length.partition(" ")[2]))
        self.heads.append(head)
        self.bodies.append(json.loads(body))
        steps = self.script(len(self.bodies) - 1)
        for step in steps:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            else:
                await asyncio.sleep(step)
        if not steps or not isinstance(steps[-1], bytes) or not steps[-1].endswith((LAST_CHUNK, b"}")):
            writer.close()


async def _head(reader: asyncio.StreamReader) -> str:
    try:
        return (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return ""


@asynccontextmanager
async def serving(script: Callable[[int], Sequence[Step]]) -> AsyncIterator[ScriptedServer]:
    """Runs a server on a free port."""
    scripted = ScriptedServer(script)
    async with await asyncio.start_server(scripted.handle, "127.0.0.1", 0) as server:
        scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield scripted
        running = list(scripted.tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running)
