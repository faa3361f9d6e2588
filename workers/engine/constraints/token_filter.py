"""TokenFilter: the tokens that a request allows and those that it bars, beside what its grammar says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.domain.sampling import SamplingParams
from shared.errors import RequestError, invalid_request
from workers.engine.constraints.bad_words import BadWords
from workers.engine.constraints.token_mask import TokenRule

#: For each place in a byte, all bits but that one.
_OTHER_BITS = ~(np.uint8(1) << np.arange(8, dtype=np.uint8))


class TokenFilter:
    """`allowed_token_ids` and `bad_words` of one sequence, and its grammar, if it has one.

    A function of the parameters and the tokens taken: a replay rebuilds it.
    """

    def __init__(self, sampling: SamplingParams, vocab_size: int, grammar: TokenRule | None) -> None:
        self._grammar = grammar
        self._allowed = _bits(sampling.allowed_token_ids, vocab_size)
        self._bad_words = BadWords(sampling.bad_words)
        self._refusal = _refusal(sampling)
        self._is_stuck = False

    @classmethod
    def of(cls, sampling: SamplingParams, vocab_size: int, grammar: TokenRule | None) -> TokenRule | None:
        """What says which tokens a sequence may draw; None: it may draw any."""
        if not (sampling.allowed_token_ids or sampling.bad_words):
            return grammar
        return cls(sampling, vocab_size, grammar)

    @property
    def is_complete(self) -> bool:
        """Whether the grammar allows nothing to follow."""
        return self._grammar is not None and self._grammar.is_complete

    def allowed(self) -> NDArray[np.uint8]:
        """As Matcher's. Where no bit is set though the grammar could go on, `push` says so."""
        by_grammar = self._by_grammar()
        allowed = by_grammar & self._allowed
        if self._bad_words.barred:
            barred = np.fromiter(self._bad_words.barred, np.int64)
            np.bitwise_and.at(allowed, barred >> 3, _OTHER_BITS[barred & 7])
        self._is_stuck = bool(by_grammar.any()) and not allowed.any()
        return allowed

    def push(self, token_id: int) -> None:
        """Take the token that was drawn. Raises RequestError where it was drawn because none was left, or
        where the grammar cannot take it."""
        if self._is_stuck or not self._permits(token_id):
            raise self._refusal
        if self._grammar is not None:
            self._grammar.push(token_id)
        self._bad_words.push(token_id)

    def _by_grammar(self) -> NDArray[np.uint8]:
        # A grammar has a bit for the end, which is no token.
        return self._allowed if self._grammar is None else self._grammar.allowed()[: len(self._allowed)]

    def _permits(self, token_id: int) -> bool:
        is_allowed = bool(self._allowed[token_id >> 3] >> (token_id & 7) & 1)
        return is_allowed and token_id not in self._bad_words.barred


def _bits(token_ids: tuple[int, ...], vocab_size: int) -> NDArray[np.uint8]:
    """A bit for each token of the vocabulary, set for these; for all where there are none."""
    is_allowed = np.full(vocab_size, not token_ids)
    is_allowed[list(token_ids)] = True
    return np.packbits(is_allowed, bitorder="little")


def _refusal(sampling: SamplingParams) -> RequestError:
    given = [name for name in ("allowed_token_ids", "bad_words") if getattr(sampling, name)]
    sources = [f"'{name}'" for name in given] + ["the grammar"] * (sampling.constraint is not None)
    message = f"The answer cannot go on: {' and '.join(sources)} leave no token that may come next."
    return invalid_request(message, param=given[0], code="no_token_left")
