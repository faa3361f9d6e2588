"""Fail points: named places in the code where a test can make the process die.

With `BATON_FAILPOINT=claimed:3` the process kills itself (SIGKILL) when it reaches `claimed` for the third time.
Without the variable, a fail point only compares a cached value with None.
"""

from __future__ import annotations

import functools
import itertools
import os
import signal
from typing import Literal, get_args

Name = Literal[
    # A worker runs a job
    "lease_begun",
    "wake_up_received",
    "claimed",
    "resolved",
    "sampled",
    "appending",
    "appended",
    "settled",
    "result_kept",
    "ending",
    "ended",
    "closed",
    "acknowledging",
    "acknowledged",
    "taken_away",
    "given_back",
    # A worker drains
    "drain_begun",
    "drain_stopped",
    "drain_flushed",
    "drain_released",
    "drain_woken",
    # Reapers
    "reaper_judged",
    "reaper_released",
    "reaper_mended",
    "reaper_waking",
    "deadline_kept",
    # API replicas
    "creating",
    "created",
    "wake_up_sent",
    "cancelling",
    "cancelled",
    "deleting",
    "deleted",
    "retrying",
]
NAMES: tuple[Name, ...] = get_args(Name)


class _Armed:
    """The fail point at which this process dies."""

    def __init__(self, name: str, nth: int) -> None:
        self._name = name
        self._nth = nth
        self._passes = itertools.count(1)

    def pass_by(self, name: str) -> None:
        if name == self._name and next(self._passes) == self._nth:
            os.kill(os.getpid(), signal.SIGKILL)


def read_failpoint(text: str) -> tuple[str, int] | None:
    """Parse `name:nth` or `name`. Returns None for an empty text. Raises ValueError."""
    if not text:
        return None
    name, _, nth = text.partition(":")
    if name not in NAMES:
        raise ValueError(f"{name!r} is not a fail point")
    if nth and not (nth.isdecimal() and int(nth) > 0):
        raise ValueError(f"{nth!r} is not a count of at least 1")
    return name, int(nth or 1)


@functools.cache
def _armed() -> _Armed | None:
    # Read here and not passed down like other settings, because fail points lie deep in the code. The entry point has
    # checked the value.
    found = read_failpoint(os.environ.get("BATON_FAILPOINT", ""))
    return None if found is None else _Armed(*found)


def failpoint(name: Name) -> None:
    """Kill this process if BATON_FAILPOINT names this place and its turn has come."""
    armed = _armed()
    if armed is not None:
        armed.pass_by(name)
