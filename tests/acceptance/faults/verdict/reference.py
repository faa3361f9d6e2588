"""Reference: what an undisturbed run would have answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tests.acceptance.faults.verdict.history import Ask, Final
from tests.scripted_backend import scripted_token


class Reference(Protocol):
    """Answers of an engine whose output depends on nothing but the request."""

    def text(self, ask: Ask, choice: int, start: int, end: int) -> str:
        """The text of the tokens from `start` to `end`; what lies behind the answer's end is empty."""

    def length(self, ask: Ask, choice: int) -> int:
        """How many tokens the whole choice has."""

    def finish(self, ask: Ask, choice: int) -> str:
        """Why it ends."""


class Scripted:
    """The scripted engine's."""

    def text(self, ask: Ask, choice: int, start: int, end: int) -> str:
        last = min(end, self.length(ask, choice))
        return "".join(f"{scripted_token(ask.seed, choice, position)} " for position in range(start, last))

    def length(self, ask: Ask, choice: int) -> int:  # noqa: ARG002
        return min(ask.length, ask.max_tokens)

    def finish(self, ask: Ask, choice: int) -> str:  # noqa: ARG002
        return "stop" if ask.length <= ask.max_tokens else "length"


class Told:
    """What the store says that was answered: where engines differ, readers must still agree with that."""

    def __init__(self, answers: Mapping[int, Final]) -> None:
        """`answers` by seed."""
        self._answers = answers

    def text(self, ask: Ask, choice: int, start: int, end: int) -> str:
        return "".join(self._answers[ask.seed].texts[choice][start:end])

    def length(self, ask: Ask, choice: int) -> int:
        return len(self._answers[ask.seed].texts[choice])

    def finish(self, ask: Ask, choice: int) -> str:
        return self._answers[ask.seed].finishes[choice] or "none"


class Recorded:
    """Texts per token of runs that nothing disturbed, by seed: each at least as long as any that is asked.

    `rests` are, by seed and choice, what an answer of so many tokens says at its end beyond their texts: the
    mark of half a character that more tokens would have made a whole one.
    """

    def __init__(
        self,
        texts: Mapping[int, tuple[tuple[str, ...], ...]],
        rests: Mapping[int, tuple[tuple[str, ...], ...]],
    ) -> None:
        self._texts = texts
        self._rests = rests

    def text(self, ask: Ask, choice: int, start: int, end: int) -> str:
        length = self.length(ask, choice)
        tokens = self._texts[ask.seed][choice][start : min(end, length)]
        whole = "".join(self._texts[ask.seed][choice][:end])
        cut = self._stops_at(ask, choice)
        if cut is None and start < length <= end:
            return "".join(tokens) + self._rests[ask.seed][choice][length]
        if cut is None or len(whole) <= cut:
            return "".join(tokens)
        before = len("".join(self._texts[ask.seed][choice][:start]))
        return whole[before : max(before, cut)]

    def length(self, ask: Ask, choice: int) -> int:
        cut = self._stops_at(ask, choice)
        if cut is None:
            return ask.max_tokens
        assert ask.stop is not None
        length, text = 0, ""
        while ask.stop not in text:
            text += self._texts[ask.seed][choice][length]
            length += 1
        return length

    def finish(self, ask: Ask, choice: int) -> str:
        return "length" if self._stops_at(ask, choice) is None else "stop"

    def _stops_at(self, ask: Ask, choice: int) -> int | None:
        """Characters before the stop string, where it is met within the limit."""
        if ask.stop is None:
            return None
        found = "".join(self._texts[ask.seed][choice][: ask.max_tokens]).find(ask.stop)
        return None if found < 0 else found
