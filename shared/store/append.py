"""Append: what a worker writes to a job's stream, and the store's answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal, Protocol, cast, get_args

from shared.domain.events import (
    Completed,
    Failed,
    Incomplete,
    Output,
    decode_positions,
    encode_event,
    encode_positions,
    event_type,
)
from shared.domain.usage import Usage
from shared.errors import DecodeError


class Resolved(Protocol):
    """A resolved request, in the form of the backend that made it."""

    @property
    def model_revision(self) -> str:
        """Only workers of this revision may continue the job; empty: any."""

    def encode(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Append:
    """What a worker wants to write for one job: output that became final, the resolved request, the end.

    With none of the three it is a check: is the job still this worker's?
    """

    job_id: str
    claim_token: str
    #: Positions at which the worker believes the stream to end.
    start: tuple[int, ...]
    #: Positions after this.
    end: tuple[int, ...]
    #: Tokens used up to and including this.
    used: Usage = Usage()
    output: Output | None = None
    resolved: Resolved | None = None
    terminal: Completed | Incomplete | Failed | None = None

    def args(self) -> tuple[str, ...]:
        """As the script `append` reads it."""
        return (
            self.job_id,
            self.claim_token,
            encode_positions(self.start),
            encode_positions(self.end),
            self.used.encode(),
            "" if self.output is None else encode_event(self.output),
            "" if self.resolved is None and self.terminal is None else self._encode_rest(),
        )

    def _encode_rest(self) -> str:
        """What is written once in a job's life."""
        rest: dict[str, str] = {}
        if self.resolved is not None:
            rest |= {"resolved": self.resolved.encode(), "revision": self.resolved.model_revision}
        if self.terminal is not None:
            rest |= {"status": event_type(self.terminal), "terminal": encode_event(self.terminal)}
        return json.dumps(rest)


AppendAnswerKind = Literal["end", "closed", "not yours", "gone"]


@dataclass(frozen=True, slots=True)
class AppendAnswer:
    """`end`: the stream ends at `positions`, continue from there; `closed`: the job was ended by this claim;
    `not yours` and `gone`: drop the job."""

    kind: AppendAnswerKind
    positions: tuple[int, ...] = ()

    @classmethod
    def decode(cls, line: str) -> AppendAnswer:
        """Read one line of the script's answer. Raises DecodeError."""
        kind, _, positions = line.partition(":")
        if kind not in get_args(AppendAnswerKind):
            raise DecodeError("answer", line)
        return cls(cast(AppendAnswerKind, kind), decode_positions(positions) if positions else ())
