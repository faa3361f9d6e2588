"""PromptLogprobs: what a reader who asked for `prompt_logprobs` is told of the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Candidates of all tokens together: they travel in one event, of two megabytes then.
MAX_PROMPT_CANDIDATES = 2**16


@dataclass(frozen=True, slots=True)
class PromptToken:
    """How likely one token of the prompt was behind those before it, under the model alone."""

    token_id: int
    #: Natural logarithm of its probability.
    logprob: float
    #: Its place in the order of likelihood, from 1 on, equal ones by id.
    rank: int
    #: (token id, logprob) of the likeliest, from rank 1 down; as many as were asked for.
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """Told once of a job, with the first token of its first choice."""

    #: One for each token of the prompt but the first, behind nothing.
    tokens: tuple[PromptToken, ...] = ()
    #: What each token says that occurs in them; by its id.
    texts: Mapping[int, str] = field(default_factory=dict)

    @property
    def num_candidates(self) -> int:
        return sum([1 + len(token.top) for token in self.tokens])

    def to_json(self) -> dict[str, Any]:
        """As it stands in an event."""
        tokens = [(token.token_id, token.logprob, token.rank, token.top) for token in self.tokens]
        return {"tokens": tokens, "texts": dict(self.texts)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> PromptLogprobs:
        """The inverse. Raises ValueError, KeyError, TypeError or AttributeError."""
        tokens = [
            PromptToken(token_id, logprob, rank, tuple([(one, value) for one, value in top]))
            for token_id, logprob, rank, top, *_ in fields["tokens"]
        ]
        return cls(tuple(tokens), {int(token_id): text for token_id, text in fields["texts"].items()})
