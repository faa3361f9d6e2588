"""Makes one streamed request and records its timing."""

from __future__ import annotations

import asyncio
import json
import time
from array import array
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from cli.bench.connection import Answer, BadAnswer, Connections
from cli.client.sse_client import SseDecoder

_PATH = "/chat/completions"
#: How much of an error's body is read.
_ERROR_BYTES = 65_536


@dataclass(slots=True)
class Sample:
    """The timing of one request, in seconds of a monotonic clock. With an error, only the error counts."""

    #: When the request should have been sent. Latency counts from here even if it was sent late.
    intended: float
    sent: float = 0.0
    ended: float = 0.0
    #: When each chunk with text arrived.
    texts: array[float] = field(default_factory=lambda: array("d"))
    #: From the answer's usage; None if it reported none.
    completion_tokens: int | None = None
    prompt_tokens: int | None = None
    #: The kind of error; None if the answer is complete.
    error: str | None = None

    @property
    def num_tokens(self) -> int:
        """From the usage, or else the number of chunks."""
        return len(self.texts) if self.completion_tokens is None else self.completion_tokens

    @property
    def latency_s(self) -> float:
        return self.ended - self.intended

    @property
    def first_s(self) -> float | None:
        """Time from the intended sending to the first text."""
        return self.texts[0] - self.intended if self.texts else None

    @property
    def gaps_s(self) -> list[float]:
        """Times between consecutive chunks with text."""
        return [after - before for before, after in zip(self.texts, self.texts[1:], strict=False)]

    @property
    def token_s(self) -> float | None:
        """Mean time per token after the first."""
        if len(self.texts) < 2 or self.num_tokens < 2:
            return None
        return (self.texts[-1] - self.texts[0]) / (self.num_tokens - 1)


async def take_sample(connections: Connections, body: bytes, intended: float, timeout_s: float) -> Sample:
    """Makes one streamed chat request. Server errors end up in the sample and are never raised."""
    sample = Sample(intended, sent=time.perf_counter())
    try:
        async with asyncio.timeout(timeout_s), connections.post(_PATH, body) as answer:
            await _read(answer, sample)
    except TimeoutError:
        sample.error = "timeout"
    except (BadAnswer, asyncio.LimitOverrunError):
        sample.error = "not HTTP"
    except EOFError:
        sample.error = "cut"
    except OSError as error:
        sample.error = "cut" if sample.texts else f"connection: {type(error).__name__}"
    sample.ended = time.perf_counter()
    return sample


async def _read(answer: Answer, sample: Sample) -> None:
    if answer.status != 200:
        sample.error = f"status {answer.status}{_code(await _join(answer.pieces))}"
        return
    decoder = SseDecoder()
    # Some servers send no [DONE]; a finish reason before a clean end is enough.
    is_over = False
    async for piece in answer.pieces:
        now = time.perf_counter()
        for event in decoder.feed(piece):
            if event.data == "[DONE]" or _take(event.data, sample, now):
                is_over = True
    if not is_over and sample.error is None:
        sample.error = "cut"


def _take(data: str, sample: Sample, now: float) -> bool:
    """Records a chunk. Returns whether a choice has ended."""
    try:
        chunk = json.loads(data)
        if chunk.get("error"):
            sample.error = f"stream{_code(data.encode())}"
        choices = chunk.get("choices") or ()
        if any(_has_text(choice["delta"]) for choice in choices):
            sample.texts.append(now)
        if usage := chunk.get("usage"):
            sample.completion_tokens = int(usage["completion_tokens"])
            sample.prompt_tokens = int(usage["prompt_tokens"])
        return any(choice.get("finish_reason") for choice in choices)
    except (ValueError, KeyError, TypeError, AttributeError):
        sample.error = "not a chunk"
        return False


def _has_text(delta: dict[str, Any]) -> bool:
    return bool(delta.get("content") or delta.get("reasoning_content") or delta.get("tool_calls"))


async def _join(pieces: AsyncIterator[bytes]) -> bytes:
    body = b""
    async for piece in pieces:
        body = (body + piece)[:_ERROR_BYTES]
    return body


def _code(body: bytes) -> str:
    """The code of an error in OpenAI's format after a space, or "" for any other error."""
    try:
        error = json.loads(body)["error"]
        code = error.get("code") or error.get("type")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return f" {code}" if isinstance(code, str) else ""
