"""Deadline: a time at which something is due for a job."""

from __future__ import annotations

from typing import NamedTuple, cast, get_args

from shared.domain.job import DeadlineKind
from shared.errors import DecodeError


class Deadline(NamedTuple):
    """A deadline by Redis's clock."""

    kind: DeadlineKind
    job_id: str
    #: Wall-clock time in ms, as stored in Redis.
    due_ms: int

    @property
    def member(self) -> str:
        """Its member in the zset of deadlines."""
        return f"{self.kind}:{self.job_id}"

    @classmethod
    def decode(cls, member: str, score: float) -> Deadline:
        """Raises DecodeError."""
        kind, _, job_id = member.partition(":")
        if kind not in get_args(DeadlineKind):
            raise DecodeError("deadline", member)
        return cls(cast(DeadlineKind, kind), job_id, int(score))
