"""workers.engine.text.stop_strings."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engine.text.stop_strings import StopMatch, StopStringMatcher

#: Few letters, so that matches, near matches and overlaps are common.
_TEXT = st.text("ab", max_size=30)
_STOPS = st.lists(st.text("ab", min_size=1, max_size=5), max_size=4).map(tuple)


def _first_match(text: str, stops: tuple[str, ...]) -> StopMatch | None:
    """The definition, written out."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            longest = max(found, key=len)
            return StopMatch(end - len(longest), longest)
    return None


def _num_held(text: str, stops: tuple[str, ...]) -> int:
    return max((n for stop in stops for n in range(len(stop)) if text.endswith(stop[:n])), default=0)


@given(_TEXT, _STOPS, st.lists(st.integers(0, 30)))
def test_finds_the_first_complete_stop_string_however_the_text_is_split(
    text: str, stops: tuple[str, ...], cuts: list[int]
) -> None:
    matcher = StopStringMatcher(stops)
    borders = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    for start, end in pairwise(borders):
        found = matcher.push(text[start:end])
        assert found == _first_match(text[:end], stops)
        if found is not None:
            return
        assert matcher.num_held == _num_held(text[:end], stops)


@given(_TEXT, _STOPS, st.integers(0, 30))
def test_with_includes_stop_the_text_ends_after_the_stop_string_and_nothing_is_held(
    text: str, stops: tuple[str, ...], cut: int
) -> None:
    matcher = StopStringMatcher(stops, includes_stop=True)
    found = [matcher.push(text[:cut])]
    if found == [None]:
        found.append(matcher.push(text[cut:]))
    ends = [end for end in range(1, len(text) + 1) if text[:end].endswith(stops)]
    assert (found[-1] and found[-1].end) == (ends[0] if ends else None)
    assert matcher.num_held == 0


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("a\n\nHuman: b", ("Human:", "\n\nHuman:"), 1),
        ("abcd", ("abcd", "bc"), 1),
        ("aab", ("ab",), 1),
        ("nothing", ("x", ""), None),
        ("日本語。", ("。",), 3),
    ],
)
def test_the_first_complete_and_longest_overlapping_stop_string_wins(
    text: str, stops: tuple[str, ...], expected: int | None
) -> None:
    found = StopStringMatcher(stops).push(text)
    assert (found and found.end) == expected
    assert found is None or text[found.end :].startswith(found.stop)


def test_time_is_linear_in_the_length_of_a_stop_string() -> None:
    matcher = StopStringMatcher(("a" * 1000 + "b",) * 4)
    for _ in range(2000):
        assert matcher.push("aaaaa") is None
    assert matcher.num_held == 1000


@given(_TEXT, _TEXT, _STOPS)
def test_a_piece_that_may_not_end_the_text_can_only_begin_a_match(
    skipped: str, text: str, stops: tuple[str, ...]
) -> None:
    matcher = StopStringMatcher(stops)
    assert matcher.push(skipped, may_end=False) is None
    assert matcher.num_held == _num_held(skipped, stops)
    whole = skipped + text
    ends = [
        (end, -len(s), s)
        for end in range(len(skipped) + 1, len(whole) + 1)
        for s in stops
        if s == whole[max(0, end - len(s)) : end]
    ]
    first = min(ends, default=None)
    assert matcher.push(text) == (None if first is None else StopMatch(first[0] + first[1], first[2]))
