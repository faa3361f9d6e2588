from __future__ import annotations

import itertools
import subprocess
import sys

from workers.engine.drafter import Drafter

#: 1 2 3 stood before 4 5 6 7.
TOKENS = [9, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3]


def test_what_followed_the_last_three_tokens_before_is_guessed_to_follow_again() -> None:
    assert Drafter().draft(TOKENS, 8) == (4, 5, 6, 7)


def test_where_they_stood_several_times_the_last_one_counts() -> None:
    assert Drafter().draft([1, 2, 3, 4, 4, 4, 4, 1, 2, 3, 5, 5, 5, 5, 1, 2, 3], 8) == (5, 5, 5, 5)


def test_no_more_is_guessed_than_is_wanted() -> None:
    assert Drafter().draft(TOKENS, 2) == (4, 5)


def test_where_the_last_three_tokens_are_new_nothing_is_guessed() -> None:
    assert Drafter().draft([1, 2, 3, 4, 1, 2, 4], 8) == ()
    assert Drafter().draft([1, 1], 8) == ()


def test_what_repeats_itself_is_guessed_to_go_on_beyond_what_there_is() -> None:
    assert Drafter().draft([7, 5, 6, 5, 6, 5], 8) == (6, 5, 6, 5)


def test_tokens_that_came_since_are_read() -> None:
    subject = Drafter()
    subject.draft([1, 2, 3, 4], 8)
    assert subject.draft([1, 2, 3, 4, 1, 2, 3], 3) == (4, 1, 2)


def test_drafts_grow_where_they_come_true_and_shrink_where_they_do_not() -> None:
    subject = Drafter()
    tokens = [1, 2, 3, *range(10, 40), 1, 2, 3]
    assert len(subject.draft(tokens, 99)) == 4
    for num_accepted, length in ((4, 8), (8, 8), (1, 2)):
        subject.learn(num_accepted)
        assert len(subject.draft(tokens, 99)) == length


def gaps(subject: Drafter, num_tokens: int) -> list[int]:
    """Tokens between the drafts of one that is never right, of a text that repeats itself all the time."""
    drafted_at = []
    for length in range(4, num_tokens):
        if subject.draft([5] * length, 8):
            subject.learn(0)
            drafted_at.append(length)
    return [after - before for before, after in itertools.pairwise(drafted_at)]


def test_who_is_wrong_again_and_again_guesses_less_and_less_often() -> None:
    assert gaps(Drafter(), 270) == [2, 4, 8, 16, 32, 64, 64, 64]


def test_one_right_guess_ends_the_pauses() -> None:
    subject = Drafter()
    gaps(subject, 60)
    assert subject.draft([5] * 100, 8) == (5,)
    subject.learn(1)
    assert subject.draft([5] * 102, 8) == (5, 5)


def test_drafter_needs_no_torch() -> None:
    code = "import sys, workers.engine.drafter; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
