from __future__ import annotations

from cli.supervisor.backoff import Backoff


def test_doubles_up_to_ten_seconds() -> None:
    backoff = Backoff()
    waits = [backoff.wait_s(lived_s=1) for _ in range(9)]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]


def test_a_healthy_life_starts_it_anew() -> None:
    backoff = Backoff()
    waits = [backoff.wait_s(lived_s) for lived_s in (1, 1, 1, 30, 1)]
    assert waits == [0.1, 0.2, 0.4, 0.1, 0.2]
