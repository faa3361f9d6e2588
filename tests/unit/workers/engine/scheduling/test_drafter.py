from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from workers.engine.scheduling.drafter import Drafter

#: 1 2 3 came before 4 5 6 7.
TOKENS = [9, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3]


def test_drafts_what_followed_the_last_three_tokens_before() -> None:
    assert Drafter().draft(TOKENS, 4, 0.0) == (4, 5, 6, 7)


def test_the_latest_occurrence_counts() -> None:
    assert Drafter().draft([1, 2, 3, 4, 4, 4, 4, 1, 2, 3, 5, 5, 5, 5, 1, 2, 3], 4, 0.0) == (5, 5, 5, 5)


def test_a_draft_is_not_longer_than_requested() -> None:
    assert Drafter().draft(TOKENS, 2, 0.0) == (4, 5)


def test_nothing_is_drafted_after_three_new_tokens() -> None:
    assert Drafter().draft([1, 2, 3, 4, 1, 2, 4], 8, 0.0) == ()
    assert Drafter().draft([1, 1], 8, 0.0) == ()


def test_a_repetition_is_drafted_beyond_the_end_of_the_text() -> None:
    assert Drafter().draft([7, 5, 6, 5, 6, 5], 4, 0.0) == (6, 5, 6, 5)


def test_tokens_added_since_are_read() -> None:
    subject = Drafter()
    subject.draft([1, 2, 3, 4], 8, 0.0)
    assert subject.draft([1, 2, 3, 4, 1, 2, 3], 3, 0.0) == (4, 1, 2)


def repeated(num_tokens: int) -> list[int]:
    """A text whose last `num_tokens` tokens occurred before, followed by another token."""
    return [99, *range(num_tokens), *range(20, 60), 98, *range(num_tokens)]


@pytest.mark.parametrize(
    ("min_probability", "lengths"),
    [(0.0, [16, 16, 16, 16]), (0.4, [1, 2, 7, 9]), (0.6, [1, 1, 3, 4]), (0.95, [0] * 4)],
)
def test_a_longer_match_gives_a_longer_draft(min_probability: float, lengths: list[int]) -> None:
    found = [len(Drafter().draft(repeated(match), 99, min_probability)) for match in (3, 4, 12, 18)]
    assert found == lengths


def gaps(subject: Drafter, num_tokens: int) -> list[int]:
    """Tokens between the drafts of a drafter that is never right, on a text that repeats itself."""
    drafted_at = []
    for length in range(4, num_tokens):
        if subject.draft([5] * length, 8, 0.0):
            subject.learn(0)
            drafted_at.append(length)
    return [after - before for before, after in itertools.pairwise(drafted_at)]


def test_repeated_rejections_make_drafts_rarer() -> None:
    assert gaps(Drafter(), 270) == [2, 4, 8, 16, 32, 64, 64, 64]


def test_one_accepted_draft_ends_the_pauses() -> None:
    subject = Drafter()
    gaps(subject, 60)
    assert subject.draft([5] * 100, 1, 0.0) == (5,)
    subject.learn(1)
    assert subject.draft([5] * 102, 1, 0.0) == (5,)
    subject.learn(0)  # the first rejection since: a pause of two tokens, as at the beginning
    assert subject.draft([5] * 103, 1, 0.0) == ()
    assert subject.draft([5] * 104, 1, 0.0) == (5,)


def test_drafter_needs_no_torch() -> None:
    code = "import sys, workers.engine.scheduling.drafter; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
