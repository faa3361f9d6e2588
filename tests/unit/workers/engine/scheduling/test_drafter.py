from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from workers.engine.scheduling.drafter import Drafter

#: 1 2 3 stood before 4 5 6 7.
TOKENS = [9, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3]


def test_what_followed_the_last_three_tokens_before_is_guessed_to_follow_again() -> None:
    assert Drafter().draft(TOKENS, 4, 0.0) == (4, 5, 6, 7)


def test_where_they_stood_several_times_the_last_one_counts() -> None:
    assert Drafter().draft([1, 2, 3, 4, 4, 4, 4, 1, 2, 3, 5, 5, 5, 5, 1, 2, 3], 4, 0.0) == (5, 5, 5, 5)


def test_no_more_is_guessed_than_is_wanted() -> None:
    assert Drafter().draft(TOKENS, 2, 0.0) == (4, 5)


def test_where_the_last_three_tokens_are_new_nothing_is_guessed() -> None:
    assert Drafter().draft([1, 2, 3, 4, 1, 2, 4], 8, 0.0) == ()
    assert Drafter().draft([1, 1], 8, 0.0) == ()


def test_what_repeats_itself_is_guessed_to_go_on_beyond_what_there_is() -> None:
    assert Drafter().draft([7, 5, 6, 5, 6, 5], 4, 0.0) == (6, 5, 6, 5)


def test_tokens_that_came_since_are_read() -> None:
    subject = Drafter()
    subject.draft([1, 2, 3, 4], 8, 0.0)
    assert subject.draft([1, 2, 3, 4, 1, 2, 3], 3, 0.0) == (4, 1, 2)


def repeated(num_tokens: int) -> list[int]:
    """A text that ends with so many tokens that stood in it before, behind another one."""
    return [99, *range(num_tokens), *range(20, 60), 98, *range(num_tokens)]


@pytest.mark.parametrize(
    ("least_chance", "lengths"),
    [(0.0, [16, 16, 16, 16]), (0.4, [1, 2, 7, 9]), (0.6, [1, 1, 3, 4]), (0.95, [0] * 4)],
)
def test_the_more_stood_before_the_more_is_guessed(least_chance: float, lengths: list[int]) -> None:
    found = [len(Drafter().draft(repeated(match), 99, least_chance)) for match in (3, 4, 12, 18)]
    assert found == lengths


def gaps(subject: Drafter, num_tokens: int) -> list[int]:
    """Tokens between the drafts of one that is never right, of a text that repeats itself all the time."""
    drafted_at = []
    for length in range(4, num_tokens):
        if subject.draft([5] * length, 8, 0.0):
            subject.learn(0)
            drafted_at.append(length)
    return [after - before for before, after in itertools.pairwise(drafted_at)]


def test_who_is_wrong_again_and_again_guesses_less_and_less_often() -> None:
    assert gaps(Drafter(), 270) == [2, 4, 8, 16, 32, 64, 64, 64]


def test_one_right_guess_ends_the_pauses() -> None:
    subject = Drafter()
    gaps(subject, 60)
    assert subject.draft([5] * 100, 1, 0.0) == (5,)
    subject.learn(1)
    assert subject.draft([5] * 102, 1, 0.0) == (5,)
    subject.learn(0)  # the first that is wrong again: a pause of two tokens, as at the beginning
    assert subject.draft([5] * 103, 1, 0.0) == ()
    assert subject.draft([5] * 104, 1, 0.0) == (5,)


def test_drafter_needs_no_torch() -> None:
    code = "import sys, workers.engine.scheduling.drafter; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
