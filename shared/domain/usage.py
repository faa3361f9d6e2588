"""Usage: the tokens that a job has used."""

from __future__ import annotations

from typing import NamedTuple

from shared.errors import DecodeError


class Usage(NamedTuple):
    """Counts up to one entry of a job's stream. Workers count; nobody derives usage from positions, because a
    position of an upstream service is a piece of text and not a token."""

    prompt: int = 0
    #: Tokens of all choices, reasoning included.
    completion: int = 0
    #: Prompt tokens that were read from a cache.
    cached: int = 0
    #: Completion tokens that were spent on reasoning.
    reasoning: int = 0

    @property
    def total(self) -> int:
        return self.prompt + self.completion

    def plus(self, more: Usage) -> Usage:
        """The sum, count by count. (`+` joins tuples.)"""
        return Usage(
            self.prompt + more.prompt,
            self.completion + more.completion,
            self.cached + more.cached,
            self.reasoning + more.reasoning,
        )

    def encode(self) -> str:
        """`prompt,completion,cached,reasoning`: the field `used` of a stream's entries."""
        return ",".join(map(str, self))

    @classmethod
    def decode(cls, raw: str) -> Usage:
        """The inverse of `encode`. Ignores counts that a newer version added. Raises DecodeError."""
        if not raw:
            return cls()
        try:
            return cls(*[int(part) for part in raw.split(",")[:4]])
        except ValueError as error:
            raise DecodeError("usage", raw) from error
