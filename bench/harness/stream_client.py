"""A streaming chat client with little overhead, so that a benchmark on two cores measures the server."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_USAGE = re.compile(rb'"completion_tokens":\s*(\d+)')
_CONTENT = re.compile(rb'"content":\s*"[^"]')


@dataclass(frozen=True)
class Streamed:
    """One stream: its tokens according to the usage, and the seconds to its first text and to its end."""

    tokens: int
    first_s: float
    seconds: float


async def stream_chat(url: str, body: dict[str, Any]) -> Streamed:
    """POST a chat and read its stream to `[DONE]`. Raises ValueError if the stream is incomplete."""
    target = urlsplit(url)
    payload = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {target.netloc}\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(payload)}\r\n\r\n"
    )
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection(target.hostname, target.port, limit=2**20)
    try:
        writer.write(head.encode() + payload)
        received, first_s = b"", 0.0
        while chunk := await reader.read(65536):
            received += chunk
            if not first_s and _CONTENT.search(received):
                first_s = time.perf_counter() - started
        usage = _USAGE.findall(received)
        if b"data: [DONE]" not in received or not usage:
            raise ValueError(f"incomplete stream: {received[:500]!r}")
        return Streamed(int(usage[-1]), first_s, time.perf_counter() - started)
    finally:
        writer.close()


async def stream_all(url: str, bodies: list[dict[str, Any]]) -> tuple[int, float]:
    """Streams all chats at once. Returns the tokens, and the seconds until the last stream ended."""
    started = time.perf_counter()
    streams = await asyncio.gather(*(stream_chat(url, body) for body in bodies))
    return sum(stream.tokens for stream in streams), time.perf_counter() - started
