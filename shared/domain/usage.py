"""Usage: the tokens that a job has used."""

from __future__ import annotations

from typing import NamedTuple

from shared.errors import DecodeError


class Usage(NamedTuple):
    """Tokens used up to one entry of a job's stream.

    Workers count them. They cannot be derived from positions, because a unit of an upstream service is not a token.
    """

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
        """Return the sum of each count. (`+` would join the tuples.)"""
        return Usage(
            self.prompt + more.prompt,
            self.completion + more.completion,
            self.cached + more.cached,
            self.reasoning + more.reasoning,
        )

    def encode(self) -> str:
        """Return `prompt,completion,cached,reasoning`, the field `used` of a stream's entries."""
        return ",".join(map(str, self))

    @classmethod
    def decode(cls, raw: str) -> Usage:
        """The inverse of `encode`. Ignores counts of a newer version. Raises DecodeError."""
        if not raw:
            return cls()
        try:
            return cls(*[int(part) for part in raw.split(",")[:4]])
        except ValueError as error:
            raise DecodeError("usage", raw) from error
