"""Plan: a job whose whole answer is known. Each token is a function of job, choice and position."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Literal

from shared.domain.events import ChoiceOutput
from shared.domain.job import NewJob, Priority, ResolvedRequest
from shared.domain.sampling import SamplingParams
from workers.runtime.transcript import Transcript

MODEL = "org/model"
OWNER = "owner"
REVISION = "rev"
PROMPT = (5, 6, 7)

Deadlined = Literal["nothing", "expires", "cancel", "reader"]


@dataclass(frozen=True)
class Plan:
    """A job and its whole answer."""

    number: int
    #: Tokens per choice. A choice of more than three ends by its limit.
    lengths: tuple[int, ...]
    priority: Priority = "normal"
    deadlined: Deadlined = "nothing"
    #: Forgotten by the next reaper that sees it over.
    is_short_lived: bool = False
    retry_of: str | None = None

    @property
    def job_id(self) -> str:
        return f"job_{self.number:024d}"

    @property
    def body(self) -> dict[str, Any]:
        return {"number": self.number}

    @property
    def resolved(self) -> ResolvedRequest:
        return ResolvedRequest(PROMPT, SamplingParams(max_tokens=8, seed=self.number), (), REVISION)

    def new_job(self) -> NewJob:
        return NewJob(
            self.job_id,
            MODEL,
            OWNER,
            self.body,
            n=len(self.lengths),
            priority=self.priority,
            on_disconnect="cancel" if self.deadlined == "reader" else "continue",
            expires_after_s=0.0 if self.deadlined == "expires" else None,
            cancel_after_s=0.0 if self.deadlined == "cancel" else None,
            reader_grace_s=0.0,
            retention_s=0.0 if self.is_short_lived else 86_400.0,
            retry_of=self.retry_of,
        )

    def token(self, choice: int, position: int) -> int:
        return zlib.crc32(f"{self.number} {choice} {position}".encode()) % 50_000

    def tokens(self, choice: int) -> list[int]:
        """The whole answer of a choice."""
        return [self.token(choice, position) for position in range(self.lengths[choice])]

    def step(self, transcript: Transcript, drawn: int) -> tuple[ChoiceOutput, ...]:
        """What comes next when each open choice draws up to so many tokens."""
        progress = transcript.progress
        found = enumerate(zip(*progress, self.lengths, strict=True))
        return tuple(
            self._output(index, start, min(start + drawn, length))
            for index, (start, is_finished, length) in found
            if not is_finished
        )

    def _output(self, index: int, start: int, end: int) -> ChoiceOutput:
        length = self.lengths[index]
        ids = tuple(self.token(index, position) for position in range(start, end))
        finish = None if end < length else ("length" if length > 3 else "stop")
        return ChoiceOutput(index, start, ids, tuple(f" {token}" for token in ids), finish)  # type: ignore[arg-type]
