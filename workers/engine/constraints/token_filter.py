"""TokenFilter: applies a request's lists of allowed tokens and bad words, together with its grammar."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.domain.sampling import SamplingParams
from shared.errors import RequestError, invalid_request
from workers.engine.constraints.bad_words import BadWords
from workers.engine.constraints.token_mask import TokenRule

#: For each bit of a byte, a mask of all other bits.
_OTHER_BITS = ~(np.uint8(1) << np.arange(8, dtype=np.uint8))


class TokenFilter:
    """`allowed_token_ids`, `bad_words` and the grammar, if any, of one sequence.

    The state depends only on the parameters and the tokens pushed, so a replay restores it.
    """

    def __init__(self, sampling: SamplingParams, vocab_size: int, grammar: TokenRule | None) -> None:
        self._grammar = grammar
        self._allowed = _bits(sampling.allowed_token_ids, vocab_size)
        self._bad_words = BadWords(sampling.bad_words)
        self._error = _no_token_left(sampling)
        self._is_stuck = False

    @classmethod
    def of(cls, sampling: SamplingParams, vocab_size: int, grammar: TokenRule | None) -> TokenRule | None:
        """Return the rule for the tokens that a sequence may draw. None: any token."""
        if not (sampling.allowed_token_ids or sampling.bad_words):
            return grammar
        return cls(sampling, vocab_size, grammar)

    @property
    def is_complete(self) -> bool:
        """Whether nothing can follow by the grammar."""
        return self._grammar is not None and self._grammar.is_complete

    def allowed(self) -> NDArray[np.uint8]:
        """Like `Matcher.allowed`. If no bit is set although the grammar could continue, `push` raises."""
        by_grammar = self._by_grammar()
        allowed = by_grammar & self._allowed
        if self._bad_words.barred:
            barred = np.fromiter(self._bad_words.barred, np.int64)
            np.bitwise_and.at(allowed, barred >> 3, _OTHER_BITS[barred & 7])
        self._is_stuck = bool(by_grammar.any()) and not allowed.any()
        return allowed

    def push(self, token_id: int) -> None:
        """Append the drawn token.

        Raises: RequestError if no token was allowed, or if the grammar does not accept this one.
        """
        if self._is_stuck or not self._permits(token_id):
            raise self._error
        if self._grammar is not None:
            self._grammar.push(token_id)
        self._bad_words.push(token_id)

    def _by_grammar(self) -> NDArray[np.uint8]:
        # A grammar's mask has another bit for the end of the text, which is not a token.
        return self._allowed if self._grammar is None else self._grammar.allowed()[: len(self._allowed)]

    def _permits(self, token_id: int) -> bool:
        is_allowed = bool(self._allowed[token_id >> 3] >> (token_id & 7) & 1)
        return is_allowed and token_id not in self._bad_words.barred


def _bits(token_ids: tuple[int, ...], vocab_size: int) -> NDArray[np.uint8]:
    """A bitmask over the vocabulary with these tokens set. All are set if the list is empty."""
    is_allowed = np.full(vocab_size, not token_ids)
    is_allowed[list(token_ids)] = True
    return np.packbits(is_allowed, bitorder="little")


def _no_token_left(sampling: SamplingParams) -> RequestError:
    given = [name for name in ("allowed_token_ids", "bad_words") if getattr(sampling, name)]
    sources = [f"'{name}'" for name in given] + ["the grammar"] * (sampling.constraint is not None)
    message = f"The answer cannot continue: {' and '.join(sources)} leave no allowed next token."
    return invalid_request(message, param=given[0], code="no_token_left")
