"""WaitEstimator: how many jobs come before waiting ones, and about how long these will wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from api.streaming.queue_position import QueuePosition
from shared.store.job_reader import JobReader
from shared.store.throughput import Throughput

#: Throughput and workers are looked up at most this often.
_FRESH_S = 1.0


@dataclass(frozen=True, slots=True)
class _Outlook:
    """What determines how fast a model's queue moves."""

    pace: Throughput
    slots: int
    free: int
    seen_at: float


class WaitEstimator:
    """Estimates for the jobs of all models."""

    def __init__(self, reader: JobReader, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._reader = reader
        self._clock = clock
        self._outlooks: dict[str, _Outlook] = {}

    async def queue_positions(self, jobs: Sequence[tuple[str, str]]) -> list[QueuePosition | None]:
        """For each (model, job id) its position; None for a job that does not wait. Raises StoreUnavailable."""
        if not jobs:
            return []
        positions = await self._reader.queue_positions(jobs)
        found: list[QueuePosition | None] = []
        for (model, _), position in zip(jobs, positions, strict=True):
            found.append(None if position is None else await self._estimate(model, position))
        return found

    async def _estimate(self, model: str, position: int) -> QueuePosition:
        outlook = self._outlooks.get(model)
        if outlook is None or self._clock() - outlook.seen_at > _FRESH_S:
            outlook = self._outlooks[model] = await self._look(model)
        return QueuePosition(position, outlook.pace.eta_s(position, slots=outlook.slots, free=outlook.free))

    async def _look(self, model: str) -> _Outlook:
        workers = [w for w in await self._reader.workers() if w.model == model and not w.is_draining]
        slots = sum(worker.slots for worker in workers)
        free = sum(max(0, worker.slots - worker.jobs) for worker in workers)
        return _Outlook(await self._reader.pace(model), slots, free, self._clock())
