"""Finding: what one check found, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cli.errors import StartRefused

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`fail`: Baton does not start or does not keep its promise; `warn`: it does, but less well."""

    check: str
    level: Level
    detail: str
    #: What to do; empty where nothing is to be done.
    advice: str = ""


def refusal(check: str, advice: str, start: Callable[[], object]) -> Finding | None:
    """The reason why `baton up` would refuse to start, if this part of its start does."""
    try:
        start()
    except StartRefused as error:
        return Finding(check, "fail", str(error), advice)
    return None
