"""Soak: random arrivals, cancellations and continuations, with every output compared to the pool."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.domain.output import ChoiceOutput
from shared.domain.sampling import SamplingParams
from tests.soak.pool import Known, join
from workers.engine.engine import Engine
from workers.engine.output import EngineOutput
from workers.engine.resolved_request import ResolvedRequest

#: Maximum number of requests in the engine at once: more than it has slots.
_MOST = 48
#: Steps after which all sequences that fit have started.
_FILLING_STEPS = 20


@dataclass(slots=True)
class _Open:
    """A request in the engine, and its answer so far, including the part that it was continued from."""

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
        """Add some requests, abort some, and run one step. Fails on an output that differs from the pool."""
        while len(self._open) < _MOST and self._chance.random() < 0.3:
            self._add()
        if self._open and self._chance.random() < 0.02:
            self._abort()
        self._take(self._engine.step())

    def drain(self) -> None:
        """Run until all requests have ended. Fails if something is left over."""
        while self._engine.has_work:
            self._take(self._engine.step())
        assert not self._open, "requests that did not end"
        stats = self._engine.stats
        assert (stats.running, stats.waiting) == (0, 0), "sequences left over"

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
                assert opened.answer == opened.known.answer, f"the answer of {output.request_id} differs"
                del self._open[output.request_id]
                self.num_checked += 1


def most_at_once(engine: Engine) -> int:
    """How many short sequences run at once in an idle engine. Aborts them afterwards."""
    sampling = SamplingParams(max_tokens=2 * _FILLING_STEPS, seed=0)
    names = [f"slot {number}" for number in range(_MOST)]
    for name in names:
        engine.add(name, ResolvedRequest(((5,),), sampling, (), "revision"))
    running = 0
    for _ in range(_FILLING_STEPS):
        engine.step()
        running = max(running, engine.stats.running)
    for name in names:
        engine.abort(name)
    return running
