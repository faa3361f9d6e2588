"""QueueScore: where a job stands in its model's queue: its class first, then the order of acceptance."""

from __future__ import annotations

from shared.domain.job import Priority

PRIORITY_CLASS: dict[Priority, int] = {"high": 0, "normal": 1, "low": 2}
#: A score is the class times this, plus the job's place in the order of acceptance (µs since the epoch).
#: With three classes every score is a whole number that a double holds exactly.
PRIORITY_SPAN = 3 * 10**15
#: Nobody starves: a job that has waited this long (seconds) goes on in the next better class, at its place.
#: So after two hours it waits for no job that was accepted after it.
PROMOTED_AFTER_S: dict[Priority, float] = {"low": 3600, "normal": 7200}


def class_offset(priority: Priority) -> int:
    """The first score of a class."""
    return PRIORITY_CLASS[priority] * PRIORITY_SPAN


def accepted_at(score: float) -> float:
    """When the job with this score was accepted, in seconds since the epoch."""
    return score % PRIORITY_SPAN / 1_000_000
