"""StopStringMatcher: finds the first stop string in a growing text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class StopMatch(NamedTuple):
    """A stop string that ended a text."""

    #: Length of the text that is left.
    end: int
    stop: str


class StopStringMatcher:
    """Reads a text piece by piece. How the text is split does not change the result.

    The match is the one that completes first. If several end at the same character, it is the longest.
    """

    def __init__(self, stops: tuple[str, ...], *, includes_stop: bool = False) -> None:
        """`includes_stop`: the text includes the stop string that ends it."""
        self._patterns = [_Pattern(stop, _borders(stop)) for stop in stops if stop]
        self._includes_stop = includes_stop
        self._length = 0

    @property
    def num_held(self) -> int:
        """The number of characters at the end of the text that may turn out to begin a stop string."""
        if self._includes_stop:
            return 0
        return max((pattern.num_matched for pattern in self._patterns), default=0)

    def push(self, text: str, *, may_end: bool = True) -> StopMatch | None:
        """Read a piece. Returns the match if this piece completes a stop string, else None.

        Do not call `push` after a match. If not `may_end`, the piece completes no stop string.
        """
        if not may_end:
            self._length += len(text)
            for pattern in self._patterns:
                pattern.skip(text)
            return None
        found = [(end, -len(p.stop), p.stop) for p in self._patterns if (end := p.push(text)) is not None]
        start = self._length
        self._length += len(text)
        if not found:
            return None
        end, negative_length, stop = min(found)
        return StopMatch(start + end + (0 if self._includes_stop else negative_length), stop)


@dataclass(slots=True)
class _Pattern:
    """One stop string, matched by the Knuth-Morris-Pratt algorithm, which looks at each character once."""

    stop: str
    borders: list[int]
    #: Length of the longest prefix of the stop string that ends the text.
    num_matched: int = 0

    def push(self, text: str) -> int | None:
        """Return the end of the first match in this piece. None: there is none."""
        if not self.num_matched and self.stop[0] not in text:
            return None
        for i, character in enumerate(text):
            if self._take(character):
                return i + 1
        return None

    def skip(self, text: str) -> None:
        """Read a piece in which matches are ignored, except as the start of a later match."""
        for character in text:
            if self._take(character):
                self.num_matched = self.borders[-1]

    def _take(self, character: str) -> bool:
        """Read a character. Returns whether it completes the stop string."""
        matched = self.num_matched
        while matched and self.stop[matched] != character:
            matched = self.borders[matched - 1]
        self.num_matched = matched + (self.stop[matched] == character)
        return self.num_matched == len(self.stop)


def _borders(pattern: str) -> list[int]:
    """For each prefix of the pattern, the length of its longest proper prefix that is also its suffix."""
    borders = [0] * len(pattern)
    matched = 0
    for i in range(1, len(pattern)):
        while matched and pattern[matched] != pattern[i]:
            matched = borders[matched - 1]
        if pattern[matched] == pattern[i]:
            matched += 1
        borders[i] = matched
    return borders
