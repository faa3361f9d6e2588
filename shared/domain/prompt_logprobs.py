"""PromptLogprobs: log probabilities of a prompt's tokens, for requests with `prompt_logprobs`."""

from __future__ import annotations

import msgspec

#: Candidates of all tokens together. They travel in one event, which has up to two megabytes then.
MAX_PROMPT_CANDIDATES = 2**16


class PromptToken(msgspec.Struct, frozen=True, array_like=True):
    """How likely one token of the prompt was, given those before it, under the model alone."""

    token_id: int
    #: Natural logarithm of its probability.
    logprob: float
    #: Its rank by probability, from 1 on, equal ones by id.
    rank: int
    #: (token id, logprob) of the most likely tokens, from rank 1 down; as many as the request asked for.
    top: tuple[tuple[int, float], ...] = ()


class PromptLogprobs(msgspec.Struct, frozen=True):
    """Released once a prompt, with the first token of its first choice."""

    #: One for each token of the prompt but the first, which follows nothing.
    tokens: tuple[PromptToken, ...] = ()
    #: The text of each token id that occurs in `tokens`.
    texts: dict[int, str] = {}

    @property
    def num_candidates(self) -> int:
        return sum([1 + len(token.top) for token in self.tokens])
