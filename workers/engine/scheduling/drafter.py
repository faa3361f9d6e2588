"""Drafter: guesses how a sequence goes on, from where its last tokens stood before. Knows no torch.

Prompt look-up decoding (https://github.com/apoorvumang/prompt-lookup-decoding): answers that quote, correct
or list repeat what the prompt or they themselves said.
"""

from __future__ import annotations

#: So many tokens in a row must have stood before.
_NGRAM = 3
#: Of more that stood before nothing is made.
_LONGEST_MATCH = 16
#: Tokens of the longest draft.
_MAX_DRAFT = 16
#: After a draft of which nothing was drawn no other is made for some tokens; the more such drafts in a row,
#: the more tokens, up to this.
_LONGEST_PAUSE = 64


class Drafter:
    """Of one sequence. The more of its last tokens stood before the longer are its drafts; where they do not
    come true they are rare."""

    def __init__(self) -> None:
        #: Behind which place each n-gram stood last, of those that have a token behind them.
        self._places: dict[tuple[int, ...], int] = {}
        self._num_read = 0
        self._pause = 0
        self._silent_until = 0

    def draft(self, token_ids: list[int], most: int, least_chance: float) -> tuple[int, ...]:
        """What may follow these tokens, which are the same as before and more: at most so many, and none that
        is less likely to be drawn than this."""
        if len(token_ids) < self._silent_until:
            return ()
        self._read(token_ids)
        place = self._places.get(tuple(token_ids[-_NGRAM:]))
        if place is None:
            return ()
        length = _length(_match(token_ids, place), min(most, _MAX_DRAFT), least_chance)
        period = len(token_ids) - place
        return tuple([token_ids[place + i % period] for i in range(length)])

    def learn(self, num_accepted: int) -> None:
        """So many tokens of the last draft were drawn."""
        if num_accepted:
            self._pause = 0
        else:
            self._pause = min(2 * self._pause or 2, _LONGEST_PAUSE)
            self._silent_until = self._num_read + self._pause

    def _read(self, token_ids: list[int]) -> None:
        for place in range(max(self._num_read, _NGRAM), len(token_ids)):
            self._places[tuple(token_ids[place - _NGRAM : place])] = place
        self._num_read = len(token_ids)


def _match(token_ids: list[int], place: int) -> int:
    """How many of the last tokens stood before `place` too; _NGRAM did."""
    length = _NGRAM
    while length < min(place, _LONGEST_MATCH) and token_ids[place - 1 - length] == token_ids[-1 - length]:
        length += 1
    return length


def _length(match: int, most: int, least_chance: float) -> int:
    """So many tokens, `most` at most, have this chance to be drawn where `match` tokens stood before.

    Where m did the next one follows again in m of m + 2 cases, in chats of SmolLM2 with itself and where it
    repeats a text: 3 in 5 behind 3 tokens, 9 in 10 behind 16.
    """
    length, chance = 0, 1.0
    while length < most and (chance := chance * (match + length) / (match + length + 2)) >= least_chance:
        length += 1
    return length
