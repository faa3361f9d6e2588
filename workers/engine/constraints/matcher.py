"""Matcher: the state of one sequence's text in its grammar, and the tokens that may follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from shared.errors import ErrorInfo, RequestError
from workers.engine.constraints.vocabulary import Vocabulary

_STUCK = ErrorInfo(
    "The answer cannot continue: the grammar is too complex for one step, or the model has no token for the "
    "text that must follow.",
    code="grammar_failed",
)


class Matcher:
    """Matches one sequence against its grammar.

    The state depends only on the grammar and the tokens pushed, so a replay restores it.
    """

    def __init__(
        self,
        begun: LLMatcher,
        begin_anew: Callable[[], LLMatcher],
        vocabulary: Vocabulary,
        stop_token_ids: Iterable[int],
    ) -> None:
        """`begun` is at the start of the text and may share caches with other matchers. `begin_anew` returns
        a matcher that shares nothing."""
        self._matcher = begun
        self._begin_anew = begin_anew
        self._vocabulary = vocabulary
        self._stop_token_ids = frozenset(stop_token_ids)
        self._token_ids: list[int] = []

    @property
    def is_complete(self) -> bool:
        """Whether the text matches and nothing can follow it."""
        return self._matcher.is_stopped() and self._matcher.is_accepting() and not self._matcher.is_error()

    def allowed(self) -> NDArray[np.uint8]:
        """A bitmask of the tokens that may come next. Token 0 is the lowest bit of the first byte.

        These are the tokens that the grammar allows, and the stop tokens where the text may end. No bit is
        set if the grammar cannot continue; `push` raises then.
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
        """Append the drawn token. Raises: RequestError if the grammar does not accept it."""
        if not self._accepts(token_id):
            self._recover()
            if not self._accepts(token_id):
                raise RequestError(_STUCK)

    def _accepts(self, token_id: int) -> bool:
        if self._matcher.is_error():
            return False
        has_text = token_id < len(self._vocabulary) and self._vocabulary.tokens[token_id]
        if has_text and self._matcher.try_consume_tokens([token_id]):
            self._token_ids.append(token_id)
            return True
        return token_id in self._stop_token_ids and self._matcher.is_accepting()

    def _recover(self) -> None:
        """Start again without shared caches, since other texts may have made this one reach a limit."""
        self._matcher = self._begin_anew()
        self._matcher.try_consume_tokens(self._token_ids)
