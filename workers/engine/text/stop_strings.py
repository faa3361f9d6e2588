"""StopStringMatcher: finds the first stop string in a growing text."""

from __future__ import annotations

from dataclasses import dataclass


class StopStringMatcher:
    """Reads a text piece by piece; how it is cut into pieces changes nothing.

    The match is the one that is complete first; of those that end at the same character, the longest.
    """

    def __init__(self, stops: tuple[str, ...], *, includes_stop: bool = False) -> None:
        """`includes_stop`: the stop string that ends the text belongs to it."""
        self._patterns = [_Pattern(stop, _borders(stop)) for stop in stops if stop]
        self._includes_stop = includes_stop
        self._length = 0

    @property
    def num_held(self) -> int:
        """How many characters at the end of the text may turn out not to belong to it."""
        if self._includes_stop:
            return 0
        return max((pattern.num_matched for pattern in self._patterns), default=0)

    def push(self, text: str, *, may_end: bool = True) -> int | None:
        """Where the whole text ends by the stop string that this piece completes; None: it completes none.

        After a match there is nothing to be pushed. A piece that may not end the text completes none.
        """
        if not may_end:
            self._length += len(text)
            for pattern in self._patterns:
                pattern.skip(text)
            return None
        found = [(end, -len(p.stop)) for p in self._patterns if (end := p.push(text)) is not None]
        start = self._length
        self._length += len(text)
        if not found:
            return None
        end, negative_length = min(found)
        return start + end + (0 if self._includes_stop else negative_length)


@dataclass(slots=True)
class _Pattern:
    """One stop string, matched by Knuth, Morris and Pratt's algorithm: each character is looked at once."""

    stop: str
    borders: list[int]
    #: The longest beginning of the stop string that the text ends with.
    num_matched: int = 0

    def push(self, text: str) -> int | None:
        """The end, in this piece, of the first match; None if there is none."""
        if not self.num_matched and self.stop[0] not in text:
            return None
        for i, character in enumerate(text):
            if self._take(character):
                return i + 1
        return None

    def skip(self, text: str) -> None:
        """Read a piece in which a match counts for nothing but the beginning of another one."""
        for character in text:
            if self._take(character):
                self.num_matched = self.borders[-1]

    def _take(self, character: str) -> bool:
        """Whether this character completes the stop string."""
        matched = self.num_matched
        while matched and self.stop[matched] != character:
            matched = self.borders[matched - 1]
        self.num_matched = matched + (self.stop[matched] == character)
        return self.num_matched == len(self.stop)


def _borders(pattern: str) -> list[int]:
    """For each beginning of the pattern, the length of its longest proper prefix that is also its suffix."""
    borders = [0] * len(pattern)
    matched = 0
    for i in range(1, len(pattern)):
        while matched and pattern[matched] != pattern[i]:
            matched = borders[matched - 1]
        if pattern[matched] == pattern[i]:
            matched += 1
        borders[i] = matched
    return borders
