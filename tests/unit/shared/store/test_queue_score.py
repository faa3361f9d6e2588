"""Scores order by class and then by acceptance, and a double holds each of them exactly."""

from __future__ import annotations

from shared.store.queue_score import PRIORITY_SPAN, accepted_at, class_offset

#: The last microsecond of the year 2060.
LATEST_US = 2_871_763_199_999_999


def test_every_score_is_exact() -> None:
    last = class_offset("low") + LATEST_US
    assert float(last) == last and float(last) != float(last - 1)


def test_a_class_goes_before_the_next_whenever_it_was_accepted() -> None:
    assert LATEST_US < PRIORITY_SPAN
    assert class_offset("high") + LATEST_US < class_offset("normal") < class_offset("low")


def test_the_moment_of_acceptance_can_be_read_from_a_score() -> None:
    assert accepted_at(class_offset("normal") + 1_700_000_000_250_000) == 1_700_000_000.25
