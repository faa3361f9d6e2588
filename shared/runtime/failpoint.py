"""Fail points: named places between two writes at which a process can be told to die, for tests.

`BATON_FAILPOINT=claimed:3` has the process kill itself (SIGKILL) when it comes to `claimed` for the third
time. Unset, a place costs a look at a cached None.
"""

from __future__ import annotations

import functools
import itertools
import os
import signal
from typing import Literal, get_args

Name = Literal[
    # A job in a worker's hands
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
    # A worker that leaves in order
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
    """One place at which this process dies."""

    def __init__(self, name: str, nth: int) -> None:
        self._name = name
        self._nth = nth
        self._passes = itertools.count(1)

    def pass_by(self, name: str) -> None:
        if name == self._name and next(self._passes) == self._nth:
            os.kill(os.getpid(), signal.SIGKILL)


def read_failpoint(text: str) -> tuple[str, int] | None:
    """`name:nth` or `name`; None for an empty text. Raises ValueError."""
    if not text:
        return None
    name, _, nth = text.partition(":")
    if name not in NAMES:
        raise ValueError(f"{name!r} is no fail point")
    if nth and not (nth.isdecimal() and int(nth) > 0):
        raise ValueError(f"{nth!r} is not how often it is passed, counted from 1")
    return name, int(nth or 1)


@functools.cache
def _armed() -> _Armed | None:
    # Not handed down as other settings are: fail points are where no setting comes. The entry has checked it.
    found = read_failpoint(os.environ.get("BATON_FAILPOINT", ""))
    return None if found is None else _Armed(*found)


def failpoint(name: Name) -> None:
    """Die here, if this process was told so."""
    armed = _armed()
    if armed is not None:
        armed.pass_by(name)
