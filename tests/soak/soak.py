"""Soak: arrivals, cancellations and continuations at random; what comes out is held against the pool."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.domain.events import ChoiceOutput
from shared.domain.job import ResolvedRequest
from shared.domain.sampling import SamplingParams
from tests.soak.pool import Known, join
from workers.engine.engine import Engine
from workers.engine.output import EngineOutput

#: Requests that are in the engine at once, at most: more than it has slots.
_MOST = 48
#: Steps in which all that there is room for has begun.
_FILLING_STEPS = 20


@dataclass(slots=True)
class _Open:
    """A request in the engine, and what has come of it, with what it came with."""

    known: Known
    answer: dict[int, ChoiceOutput] = field(default_factory=dict)


class Soak:
    """One engine under random work."""

    def __init__(self, engine: Engine, pool: Sequence[Known], chance: random.Random) -> None:
        self._engine = engine
        self._pool = pool
        self._chance = chance
        self._open: dict[str, _Open] = {}
        self._names = itertools.count()
        self.num_checked = 0
        self.num_aborted = 0
        self.num_continued = 0

    def step(self) -> None:
        """Some come, some go, one forward. Fails on an output that is not as it was alone."""
        while len(self._open) < _MOST and self._chance.random() < 0.3:
            self._add()
        if self._open and self._chance.random() < 0.02:
            self._abort()
        self._take(self._engine.step())

    def drain(self) -> None:
        """Let all that is there come to its end. Fails where something is left over."""
        while self._engine.has_work:
            self._take(self._engine.step())
        assert not self._open, "requests without an end"
        stats = self._engine.stats
        assert (stats.running, stats.waiting) == (0, 0), "sequences that nobody asked for"

    def _add(self) -> None:
        name, known = f"r{next(self._names)}", self._chance.choice(self._pool)
        opened = self._open[name] = _Open(known)
        so_far: tuple[ChoiceOutput, ...] = ()
        if self._chance.random() < 0.2:
            so_far = tuple(choice for choice in known.up_to(self._chance) if choice.end)
            join(opened.answer, so_far)
            self.num_continued += 1
        self._engine.add(name, known.request, so_far, owner=known.owner)

    def _abort(self) -> None:
        name = self._chance.choice(sorted(self._open))
        self._engine.abort(name)
        del self._open[name]
        self.num_aborted += 1

    def _take(self, outputs: Sequence[EngineOutput]) -> None:
        for output in outputs:
            assert output.error is None, output.error
            opened = self._open[output.request_id]
            join(opened.answer, output.choices)
            if output.is_last:
                assert opened.answer == opened.known.answer, f"{output.request_id} is another answer"
                del self._open[output.request_id]
                self.num_checked += 1


def most_at_once(engine: Engine) -> int:
    """How many of many short sequences run at the same time in an engine that has no work; ends them."""
    sampling = SamplingParams(max_tokens=2 * _FILLING_STEPS, seed=0)
    names = [f"place {number}" for number in range(_MOST)]
    for name in names:
        engine.add(name, ResolvedRequest((5,), sampling, (), "revision"))
    running = 0
    for _ in range(_FILLING_STEPS):
        engine.step()
        running = max(running, engine.stats.running)
    for name in names:
        engine.abort(name)
    return running
