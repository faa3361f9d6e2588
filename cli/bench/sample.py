"""Sample: what one request showed, and `take_sample`, which makes the request."""

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
#: Bytes of an error's body that are looked at.
_ERROR_BYTES = 65_536


@dataclass(slots=True)
class Sample:
    """Times are of one monotonic clock, in seconds. A request with an error counts for nothing else."""

    #: When the request should have been sent: what a client waits from, also when we were late.
    intended: float
    sent: float = 0.0
    ended: float = 0.0
    #: When each chunk with text arrived.
    texts: array[float] = field(default_factory=lambda: array("d"))
    #: By the answer's usage; None when it had none.
    completion_tokens: int | None = None
    prompt_tokens: int | None = None
    #: What went wrong, as a short kind; None when the answer is whole.
    error: str | None = None

    @property
    def num_tokens(self) -> int:
        """By usage, else by chunks."""
        return len(self.texts) if self.completion_tokens is None else self.completion_tokens

    @property
    def latency_s(self) -> float:
        return self.ended - self.intended

    @property
    def first_s(self) -> float | None:
        """From the intended sending to the first text."""
        return self.texts[0] - self.intended if self.texts else None

    @property
    def gaps_s(self) -> list[float]:
        """Between one chunk with text and the next."""
        return [after - before for before, after in zip(self.texts, self.texts[1:], strict=False)]

    @property
    def token_s(self) -> float | None:
        """Mean time of a token after the first."""
        if len(self.texts) < 2 or self.num_tokens < 2:
            return None
        return (self.texts[-1] - self.texts[0]) / (self.num_tokens - 1)


async def take_sample(connections: Connections, body: bytes, intended: float, timeout_s: float) -> Sample:
    """One streamed chat. Never raises for what the server does."""
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
        sample.error = f"status {answer.status}{_code(await _whole(answer.pieces))}"
        return
    decoder = SseDecoder()
    # Some servers send no [DONE]; a finish reason before a clean end tells as much.
    is_over = False
    async for piece in answer.pieces:
        now = time.perf_counter()
        for event in decoder.feed(piece):
            if event.data == "[DONE]" or _take(event.data, sample, now):
                is_over = True
    if not is_over and sample.error is None:
        sample.error = "cut"


def _take(data: str, sample: Sample, now: float) -> bool:
    """Whether a choice has ended."""
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


async def _whole(pieces: AsyncIterator[bytes]) -> bytes:
    body = b""
    async for piece in pieces:
        body = (body + piece)[:_ERROR_BYTES]
    return body


def _code(body: bytes) -> str:
    """` code` of an error in OpenAI's form, "" of any other."""
    try:
        error = json.loads(body)["error"]
        code = error.get("code") or error.get("type")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return f" {code}" if isinstance(code, str) else ""
