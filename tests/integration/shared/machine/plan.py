"""Plan: a job whose whole answer is known. Each token is a function of job, choice and position."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

from shared.domain.job import NewJob, OnDisconnect, Priority
from shared.domain.output import ChoiceOutput, Finish
from shared.domain.request import GenerationRequest, TextPrompt
from shared.domain.usage import Usage
from workers.runtime.transcript import Transcript

MODEL = "org/model"
OWNER = "owner"
REVISION = "rev"
NUM_PROMPT_TOKENS = 3

Deadlined = Literal["nothing", "expires", "cancel"]


@dataclass(frozen=True)
class PlanResolved:
    """A resolved request: only the revision of the model matters here."""

    model_revision: str

    def encode(self) -> str:
        return self.model_revision


@dataclass(frozen=True)
class Plan:
    """A job and its whole answer."""

    number: int
    #: Tokens per choice. A choice of more than three ends by its limit.
    lengths: tuple[int, ...]
    priority: Priority = "normal"
    deadlined: Deadlined = "nothing"
    on_disconnect: OnDisconnect = "continue"
    #: Forgotten by the next reaper that sees it over.
    is_short_lived: bool = False
    retry_of: str | None = None

    @property
    def job_id(self) -> str:
        return f"job_{self.number:024d}"

    def new_job(self) -> NewJob:
        return NewJob(
            self.job_id,
            MODEL,
            OWNER,
            GenerationRequest((TextPrompt(str(self.number)),), n=len(self.lengths)),
            priority=self.priority,
            on_disconnect=self.on_disconnect,
            expires_after_s=0.0 if self.deadlined == "expires" else None,
            cancel_after_s=0.0 if self.deadlined == "cancel" else None,
            reader_grace_s=0.0,
            retention_s=0.0 if self.is_short_lived else 86_400.0,
            retry_of=self.retry_of,
        )

    @property
    def used(self) -> Usage:
        """What the whole answer takes."""
        return Usage(NUM_PROMPT_TOKENS, sum(self.lengths))

    def token(self, choice: int, position: int) -> int:
        return zlib.crc32(f"{self.number} {choice} {position}".encode()) % 50_000

    def tokens(self, choice: int) -> list[int]:
        """The whole answer of a choice."""
        return [self.token(choice, position) for position in range(self.lengths[choice])]

    def step(self, transcript: Transcript, drawn: int) -> tuple[ChoiceOutput, ...]:
        """Return the next output when each open choice draws up to this many tokens."""
        found = enumerate(zip(transcript.positions, transcript.finishes, self.lengths, strict=True))
        return tuple(
            self._output(index, start, min(start + drawn, length))
            for index, (start, finish, length) in found
            if finish is None
        )

    def _output(self, index: int, start: int, end: int) -> ChoiceOutput:
        length = self.lengths[index]
        ids = tuple(self.token(index, position) for position in range(start, end))
        finish = None if end < length else Finish("length" if length > 3 else "stop")
        return ChoiceOutput(index, start, ids, tuple(f" {token}" for token in ids), finish)
