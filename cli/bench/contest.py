"""Measures every target at every load level in every round. The targets take turns in going first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cli.bench.connection import Connections
from cli.bench.load import Bounds, Level, run_load
from cli.bench.sample import Sample, take_sample
from cli.bench.summary import Measured, Slo, Summary, summarize
from cli.bench.target import Target
from cli.bench.workload import Workload

#: The chats of one level and round are numbered from a multiple of this.
_NUMBERS = 1_000_000
_WARM_UP_NUMBERS = -_NUMBERS


@dataclass(frozen=True, slots=True)
class Plan:
    """How each target is measured."""

    workload: Workload
    levels: tuple[Level, ...]
    requests: int | None
    duration_s: float | None
    rounds: int
    warm_up: int
    timeout_s: float
    slo: Slo

    def bounds(self, level: Level) -> Bounds:
        """The default is 64 arrivals, or four requests per client of a closed loop and at least 16."""
        if self.requests is None and self.duration_s is None:
            num_requests = 64 if level.kind == "rate" else max(16, 4 * int(level.value))
            return Bounds(num_requests, None)
        return Bounds(self.requests, self.duration_s)


class Contest:
    """One comparison of targets. Each target has a model."""

    def __init__(self, targets: Sequence[Target], plan: Plan, on_run: Callable[[str], None]) -> None:
        self._targets = targets
        self._plan = plan
        self._on_run = on_run
        self._connections = {target.name: Connections(target.base_url, target.headers) for target in targets}
        self._runs: dict[tuple[str, Level], list[Measured]] = {}

    async def run(self) -> list[Summary]:
        """Returns the summaries by level, then in the order of the targets."""
        try:
            for target in self._targets:
                await self._warm_up(target)
            for turn, (round_, level) in enumerate(self._turns()):
                for target in _rotated(self._targets, turn):
                    self._on_run(f"{target.name}: {level.kind} {level}, round {round_ + 1}")
                    measured = await self._measure(target, level, turn)
                    self._runs.setdefault((target.name, level), []).append(measured)
        finally:
            for connections in self._connections.values():
                connections.close()
        return [
            summarize(target.name, level, self._runs[target.name, level], self._plan.slo)
            for level in self._plan.levels
            for target in self._targets
        ]

    def _turns(self) -> Iterator[tuple[int, Level]]:
        for round_ in range(self._plan.rounds):
            for level in self._plan.levels:
                yield round_, level

    async def _warm_up(self, target: Target) -> None:
        if self._plan.warm_up:
            self._on_run(f"{target.name}: warm-up")
            most = max(int(level.value) for level in self._plan.levels)
            level = Level("concurrency", min(self._plan.warm_up, max(most, 1)))
            await self._send_all(target, level, Bounds(self._plan.warm_up, None), _WARM_UP_NUMBERS)

    async def _measure(self, target: Target, level: Level, turn: int) -> Measured:
        """Every target gets the same chats in a turn."""
        started, cpu_started = time.perf_counter(), time.process_time()
        samples = await self._send_all(target, level, self._plan.bounds(level), turn * _NUMBERS)
        return Measured(samples, time.perf_counter() - started, time.process_time() - cpu_started)

    async def _send_all(self, target: Target, level: Level, bounds: Bounds, first: int) -> list[Sample]:
        assert target.model is not None
        model, connections, plan = target.model, self._connections[target.name], self._plan

        async def send(number: int, due: float) -> Sample:
            body = plan.workload.body(model, first + number)
            return await take_sample(connections, body, due, plan.timeout_s)

        return await run_load(level, bounds, send, seed=plan.workload.seed + first)


def _rotated(targets: Sequence[Target], by: int) -> list[Target]:
    start = by % len(targets)
    return [*targets[start:], *targets[:start]]
