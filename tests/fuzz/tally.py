"""Tally: what came of each attack of a fuzzer, and the faults that it found."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a fuzzer goes on: so many attacks, or so many seconds, whichever ends first."""

    tries: int | None = None
    seconds: float | None = None
    _begun: float = field(default_factory=time.monotonic)

    def is_left(self, tried: int) -> bool:
        if self.tries is not None and tried >= self.tries:
            return False
        return self.seconds is None or time.monotonic() - self._begun < self.seconds


@dataclass(slots=True)
class Fault:
    """Something that must not be. Attacks with the same result are one fault."""

    group: str
    what: str
    #: An attack that shows it.
    example: str
    count: int = 1


@dataclass
class Tally:
    """Results by group of attacks. May be used from several threads."""

    #: Group -> result -> number of attacks.
    results: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    faults: dict[tuple[str, str], Fault] = field(default_factory=dict)
    #: Parts of the system that ended, each with the attack before it.
    ended: list[str] = field(default_factory=list)
    #: Further figures for the report.
    notes: list[str] = field(default_factory=list)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def num_tried(self) -> int:
        return sum(results.total() for results in self.results.values())

    def add(self, group: str, result: str) -> None:
        """Count one attack."""
        with self._turn:
            self.results[group][result] += 1

    def fault(self, group: str, what: str, example: str) -> None:
        """Note a fault. It does not count as a result."""
        with self._turn:
            known = self.faults.get((group, what))
            if known is None:
                self.faults[group, what] = Fault(group, what, example)
            else:
                known.count += 1

    def note_ended(self, names: list[str], attack: str) -> None:
        with self._turn:
            self.ended += [f"{name} (after {attack})" for name in names]

    @property
    def is_clean(self) -> bool:
        return not self.faults and not self.ended
