"""ClusterStats: counts of queues, jobs and workers for `/metrics`. The cost does not depend on the number of jobs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from redis.asyncio import Redis

from shared.domain.job import Priority
from shared.domain.lease import WorkerState
from shared.domain.worker_report import WorkerReport
from shared.errors import DecodeError
from shared.store import keys
from shared.store.job_reader import JobReader
from shared.store.queue_score import PRIORITY_SPAN, accepted_at, class_offset
from shared.store.redis_client import unavailable_as_error

logger = logging.getLogger(__name__)

#: Upper limits for the models and workers that are counted.
_MAX_MODELS = 100
_MAX_WORKERS = 1000
_MAX_AGE_S = 1.0


@dataclass(frozen=True, slots=True)
class QueueState:
    """The waiting jobs of one model and priority."""

    model: str
    priority: Priority
    waiting: int
    #: How long the oldest one has waited, by Redis's clock. 0 when none waits.
    oldest_s: float


@dataclass(frozen=True, slots=True)
class ClusterStats:
    """The counts at one moment."""

    queues: tuple[QueueState, ...]
    #: Jobs that have not ended.
    open_jobs: int
    workers: tuple[WorkerState, ...]
    #: By worker instance. A new worker may have none yet.
    reports: Mapping[str, WorkerReport]


class ClusterStatsCache:
    """Reads the stats at most once a second, however often `take` is called."""

    def __init__(
        self,
        redis: Redis,
        store: JobReader,
        models: Callable[[], Awaitable[Sequence[str]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._store = store
        self._models = models
        self._clock = clock
        self._turn = asyncio.Lock()
        self._latest: tuple[float, ClusterStats] | None = None

    async def take(self) -> ClusterStats:
        """Return stats that are at most a second old. Raises StoreUnavailable."""
        async with self._turn:
            if self._latest is None or self._clock() - self._latest[0] > _MAX_AGE_S:
                self._latest = (
                    self._clock(),
                    await read_cluster_stats(self._redis, self._store, await self._models()),
                )
            return self._latest[1]


async def read_cluster_stats(redis: Redis, store: JobReader, models: Sequence[str]) -> ClusterStats:
    """Count now. Raises StoreUnavailable."""
    workers = (await store.workers())[:_MAX_WORKERS]
    models = models[:_MAX_MODELS]
    with unavailable_as_error():
        async with redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zcard(keys.ACTIVE)
            for worker in workers:
                pipe.get(keys.worker_report(worker.worker_instance))
            for model in models:
                for priority in get_args(Priority):
                    first = class_offset(priority)
                    pipe.zcount(keys.queued(model), first, f"({first + PRIORITY_SPAN}")
                    pipe.zrangebyscore(
                        keys.queued(model), first, f"({first + PRIORITY_SPAN}", 0, 1, withscores=True
                    )
            (seconds, micros), open_jobs, *replies = await pipe.execute()
    raw, counted = replies[: len(workers)], replies[len(workers) :]
    queue_keys = [(model, priority) for model in models for priority in get_args(Priority)]
    queues = tuple(
        QueueState(model, priority, waiting, _age_s(seconds + micros / 1e6, oldest))
        for (model, priority), waiting, oldest in zip(queue_keys, counted[::2], counted[1::2], strict=True)
    )
    return ClusterStats(queues, open_jobs, tuple(workers), _reports(workers, raw))


def _age_s(now: float, oldest: list[tuple[str, float]]) -> float:
    if not oldest:
        return 0.0
    return max(0.0, now - accepted_at(oldest[0][1]))


def _reports(workers: Sequence[WorkerState], raw: Sequence[str | None]) -> dict[str, WorkerReport]:
    reports: dict[str, WorkerReport] = {}
    for worker, text in zip(workers, raw, strict=True):
        try:
            if text is not None:
                reports[worker.worker_instance] = WorkerReport.decode(text)
        except DecodeError as error:
            logger.warning("%s: %s", worker.worker_instance, error)
    return reports
