"""Plan: a seeded draw of faults. Printed, it can be replayed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

FaultKind = Literal[
    "worker kill", "worker host lost", "all workers kill", "worker stop", "worker hiccup", "worker term",
    "api kill", "api stop", "api term", "redis kill", "redis stop", "redis sleep", "redis full",
    "redis tail cut", "redis set back", "worker cut", "worker hole", "worker deaf", "worker mute",
    "worker swallow", "worker slow", "api cut", "api hole", "api deaf", "api swallow", "api slow",
    "redis disk full",
]  # fmt: skip

#: How often each fault is drawn, and how long it lasts (s, least and most; of a kill: until Redis is back).
FAULTS: dict[FaultKind, tuple[int, float, float]] = {
    "worker kill": (16, 0, 0),
    "worker host lost": (8, 0, 0),
    "all workers kill": (2, 0, 0),
    "worker stop": (4, 1.5, 4),
    "worker hiccup": (3, 0.1, 0.5),
    "worker term": (3, 0, 0),
    "api kill": (6, 0, 0),
    "api stop": (2, 0.5, 4),
    "api term": (1, 0, 0),
    "redis kill": (4, 0.05, 1.5),
    "redis stop": (1, 0.5, 3),
    "redis sleep": (1, 0.2, 2),
    "redis full": (1, 0.5, 2),
    "redis tail cut": (1, 0.05, 0.5),
    "redis set back": (1, 0.05, 0.5),
    "worker cut": (3, 0, 0),
    "worker hole": (2, 0.5, 4),
    "worker deaf": (2, 0.5, 4),
    "worker mute": (2, 0.5, 4),
    "worker swallow": (4, 0.5, 2),
    "worker slow": (1, 1, 3),
    "api cut": (3, 0, 0),
    "api hole": (1, 0.5, 4),
    "api deaf": (1, 0.5, 4),
    "api swallow": (3, 0.5, 2),
    "api slow": (1, 1, 3),
    "redis disk full": (1, 0.5, 3),
}


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault: so long after the one before it, to the part of this number."""

    after_s: float
    kind: FaultKind
    target: int
    lasts_s: float
    #: Replies to swallow, or bytes to cut off.
    amount: int

    @property
    def is_kill(self) -> bool:
        """Whether a process is killed or stopped for good by it."""
        return self.kind.endswith(("kill", "lost", "cut off")) or self.kind in (
            "redis tail cut",
            "redis set back",
        )

    def __str__(self) -> str:
        return f"+{self.after_s:.2f} {self.kind} #{self.target} {self.lasts_s:.2f}s {self.amount}"


def draw_plan(
    seed: int, *, mean_gap_s: float, faults: int, kinds: frozenset[FaultKind] | None = None
) -> list[Planned]:
    """So many faults, of these kinds or of all."""
    rng = random.Random(seed)
    names = [kind for kind in FAULTS if kinds is None or kind in kinds]
    weights = [FAULTS[kind][0] for kind in names]
    plan = []
    for _ in range(faults):
        kind = rng.choices(names, weights)[0]
        _, least, most = FAULTS[kind]
        plan.append(
            Planned(
                after_s=rng.uniform(0.3, 1.7) * mean_gap_s,
                kind=kind,
                target=rng.randrange(1000),
                lasts_s=rng.uniform(least, most),
                amount=rng.randint(1, 500),
            )
        )
    return plan
