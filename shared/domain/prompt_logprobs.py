"""PromptLogprobs: log probabilities of a prompt's tokens, for requests with `prompt_logprobs`."""

from __future__ import annotations

import msgspec

#: Maximum number of candidates of all tokens together. They are sent in one event, of up to two megabytes.
MAX_PROMPT_CANDIDATES = 2**16


class PromptToken(msgspec.Struct, frozen=True, array_like=True):
    """How likely the model considers one token of the prompt, given the tokens before it."""

    token_id: int
    #: Natural logarithm of its probability.
    logprob: float
    #: Its rank by probability, starting at 1. Ties are ordered by id.
    rank: int
    #: (token id, logprob) of as many of the most likely tokens as the request asked for, starting at rank 1.
    top: tuple[tuple[int, float], ...] = ()


class PromptLogprobs(msgspec.Struct, frozen=True, omit_defaults=True):
    """Released once for each prompt, with the first token of its first choice."""

    #: One for each token of the prompt except the first, which has no token before it.
    tokens: tuple[PromptToken, ...] = ()
    #: Text of each token id that occurs in `tokens`, and of the first token.
    texts: dict[int, str] = {}
    #: With `echo`: the prompt's first token.
    first: int | None = None
    #: With `echo`: the bytes that each token of the prompt adds to its text.
    raws: dict[int, bytes] = {}
    #: With `echo`: the prompt's text.
    text: str = ""

    @property
    def num_candidates(self) -> int:
        return sum([1 + len(token.top) for token in self.tokens])
