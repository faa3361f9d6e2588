"""Append: what a worker writes to a job's stream, and the store's reply."""

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
    """A resolved request, in the form of the backend that resolved it."""

    @property
    def model_revision(self) -> str:
        """Only workers with this revision may continue the job. Empty: any worker."""

    def encode(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Append:
    """What a worker wants to write for one job: new output, the resolved request, or the end of the job.

    With none of these it only checks whether the worker still owns the job.
    """

    job_id: str
    claim_token: str
    #: The positions at which the stream ends, as far as the worker knows.
    start: tuple[int, ...]
    #: The positions after this write.
    end: tuple[int, ...]
    #: Tokens used up to and including this write.
    used: Usage = Usage()
    output: Output | None = None
    resolved: Resolved | None = None
    terminal: Completed | Incomplete | Failed | None = None

    def args(self) -> tuple[str, ...]:
        """Return the arguments for the script `append`."""
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
        """Encode what is written only once for a job."""
        rest: dict[str, str] = {}
        if self.resolved is not None:
            rest |= {"resolved": self.resolved.encode(), "revision": self.resolved.model_revision}
        if self.terminal is not None:
            rest |= {"status": event_type(self.terminal), "terminal": encode_event(self.terminal)}
        return json.dumps(rest)


AppendAnswerKind = Literal["end", "closed", "not yours", "gone", "unreadable"]


@dataclass(frozen=True, slots=True)
class AppendAnswer:
    """The reply to an Append.

    `end`: the stream ends at `positions`, continue from there. `closed`: this claim has ended the job. `not yours` and
    `gone`: drop the job. `unreadable`: what the stream ends with, or this reply, makes no sense.
    """

    kind: AppendAnswerKind
    positions: tuple[int, ...] = ()

    @classmethod
    def decode(cls, line: str) -> AppendAnswer:
        """Decode one line of the script's reply."""
        kind, _, positions = line.partition(":")
        try:
            if kind in get_args(AppendAnswerKind):
                return cls(cast(AppendAnswerKind, kind), decode_positions(positions) if positions else ())
        except DecodeError:
            pass
        return cls("unreadable")
