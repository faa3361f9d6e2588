"""Queue scores: they order a model's queue by priority class first, then by acceptance."""

from __future__ import annotations

from shared.domain.job import Priority

PRIORITY_CLASS: dict[Priority, int] = {"high": 0, "normal": 1, "low": 2}
#: A score is the class times this, plus the job's number in the order of acceptance (µs since the epoch).
#: With three classes, a double can represent every score exactly.
PRIORITY_SPAN = 3 * 10**15
#: A job that has waited for this many seconds moves to the next higher class, so that no job starves. It keeps its
#: number, so after two hours no later job comes before it.
PROMOTED_AFTER_S: dict[Priority, float] = {"low": 3600, "normal": 7200}


def class_offset(priority: Priority) -> int:
    """Return the first score of a class."""
    return PRIORITY_CLASS[priority] * PRIORITY_SPAN


def accepted_at(score: float) -> float:
    """Return when the job with this score was accepted, in seconds since the epoch."""
    return score % PRIORITY_SPAN / 1_000_000
