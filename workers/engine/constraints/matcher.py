"""Matcher: how far the text of one sequence has got in its grammar, and which tokens may follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from shared.errors import ErrorInfo, RequestError
from workers.engine.constraints.vocabulary import Vocabulary

_STUCK = ErrorInfo(
    "The answer cannot go on: the grammar is too complex for a step, or this model has no token for what "
    "must follow.",
    code="grammar_failed",
)


class Matcher:
    """A function of the grammar and the tokens taken: a replay rebuilds it."""

    def __init__(
        self,
        begun: LLMatcher,
        begin_anew: Callable[[], LLMatcher],
        vocabulary: Vocabulary,
        stop_token_ids: Iterable[int],
    ) -> None:
        """`begun` is at the beginning of the text and may share its caches with others; what `begin_anew`
        gives shares nothing."""
        self._matcher = begun
        self._begin_anew = begin_anew
        self._vocabulary = vocabulary
        self._stop_token_ids = frozenset(stop_token_ids)
        self._taken: list[int] = []

    @property
    def is_complete(self) -> bool:
        """Whether the text matches, and nothing can follow."""
        return self._matcher.is_stopped() and self._matcher.is_accepting() and not self._matcher.is_error()

    def allowed(self) -> NDArray[np.uint8]:
        """A bit for each token that may be next, the first in the lowest bit of the first byte: by the
        grammar, and where the text may end those that end the choice.

        No bit is set where the grammar cannot go on: `push` says so then.
        """
        bits = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            self._recover()
            bits = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            return np.zeros_like(self._vocabulary.has_text)
        found = np.frombuffer(bits, np.uint8)[: len(self._vocabulary.has_text)]
        allowed = found & self._vocabulary.has_text
        if self._matcher.is_accepting():
            for token_id in self._stop_token_ids:
                allowed[token_id // 8] |= 1 << token_id % 8
        return allowed

    def push(self, token_id: int) -> None:
        """Take the token that was drawn. Raises RequestError where the grammar cannot take it."""
        if not self._takes(token_id):
            self._recover()
            if not self._takes(token_id):
                raise RequestError(_STUCK)

    def _takes(self, token_id: int) -> bool:
        if self._matcher.is_error():
            return False
        has_text = token_id < len(self._vocabulary) and self._vocabulary.tokens[token_id]
        if has_text and self._matcher.try_consume_tokens([token_id]):
            self._taken.append(token_id)
            return True
        return token_id in self._stop_token_ids and self._matcher.is_accepting()

    def _recover(self) -> None:
        """Where a limit was reached it may be others' texts that did it, by the caches that are shared."""
        self._matcher = self._begin_anew()
        self._matcher.try_consume_tokens(self._taken)
