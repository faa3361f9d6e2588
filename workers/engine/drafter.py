"""Drafter: guesses how a sequence goes on, from where its last tokens stood before. Knows no torch.

Prompt look-up decoding (https://github.com/apoorvumang/prompt-lookup-decoding): answers that quote, correct
or list repeat what the prompt or they themselves said.
"""

from __future__ import annotations

#: So many tokens in a row must have stood before.
_NGRAM = 3
#: Tokens of the first draft, and of the longest.
_FIRST_DRAFT = 4
_MAX_DRAFT = 8
#: After a draft of which nothing was drawn no other is made for some tokens; the more such drafts in a row,
#: the more tokens, up to this.
_LONGEST_PAUSE = 64


class Drafter:
    """Of one sequence. Its drafts follow its luck: long where they come true, rare where they do not."""

    def __init__(self) -> None:
        #: Behind which place each n-gram stood last, of those that have a token behind them.
        self._places: dict[tuple[int, ...], int] = {}
        self._num_read = 0
        self._length = _FIRST_DRAFT
        self._pause = 0
        self._silent_until = 0

    def draft(self, token_ids: list[int], most: int) -> tuple[int, ...]:
        """What may follow these tokens, which are the same as before and more; at most so many."""
        if len(token_ids) < self._silent_until:
            return ()
        self._read(token_ids)
        place = self._places.get(tuple(token_ids[-_NGRAM:]))
        if place is None:
            return ()
        period = len(token_ids) - place
        return tuple([token_ids[place + i % period] for i in range(min(most, self._length))])

    def learn(self, num_accepted: int) -> None:
        """So many tokens of the last draft were drawn."""
        if num_accepted:
            self._pause = 0
            self._length = min(2 * num_accepted, _MAX_DRAFT)
        else:
            self._pause = min(2 * self._pause or 2, _LONGEST_PAUSE)
            self._length = max(self._length // 2, 1)
            self._silent_until = self._num_read + self._pause

    def _read(self, token_ids: list[int]) -> None:
        for place in range(max(self._num_read, _NGRAM), len(token_ids)):
            self._places[tuple(token_ids[place - _NGRAM : place])] = place
        self._num_read = len(token_ids)
