"""The result of one check, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cli.errors import StartRefused

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`fail`: Baton cannot start or may lose data. `warn`: it works, but not as well as it could."""

    check: str
    level: Level
    detail: str
    #: What to do; empty if nothing needs to be done.
    advice: str = ""


def refusal(check: str, advice: str, start: Callable[[], object]) -> Finding | None:
    """Runs one step of the start of `baton up`. Returns a finding if the step refuses to start."""
    try:
        start()
    except StartRefused as error:
        return Finding(check, "fail", str(error), advice)
    return None
