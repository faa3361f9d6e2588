from __future__ import annotations

from cli.supervisor.backoff import Backoff


def test_one_that_never_was_ready_waits_up_to_ten_seconds() -> None:
    backoff = Backoff()
    waits = [backoff.wait_s(None) for _ in range(9)]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]


def test_one_that_served_starts_anew() -> None:
    backoff = Backoff()
    waits = [backoff.wait_s(ready_s) for ready_s in (None, None, None, 2, None, 22, 22)]
    assert waits == [0.1, 0.2, 0.4, 0.1, 0.2, 0.1, 0.1]


def test_one_that_was_ready_for_a_moment_waits_up_to_a_second() -> None:
    backoff = Backoff()
    waits = [backoff.wait_s(0.5) for _ in range(7)]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1, 1, 1]
