"""ResourceMonitor: what processes and Redis use over time, read on a fixed beat; whether it grows."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import psutil
from redis.asyncio import Redis
from redis.exceptions import RedisError

#: Seconds between two readings.
BEAT_S = 10.0


@dataclass(frozen=True, slots=True)
class Reading:
    """One process at one moment; `at` in seconds since the gauge began."""

    at: float
    name: str
    pid: int
    rss_bytes: int
    fds: int


@dataclass(frozen=True, slots=True)
class StoreReading:
    """Redis at one moment."""

    at: float
    used_bytes: int
    keys: int


@dataclass(frozen=True)
class Readings:
    """All that a gauge read."""

    seconds: float
    processes: Sequence[Reading]
    store: Sequence[StoreReading]
    #: Of the whole machine: processes that run or wait for a CPU, over a minute.
    loads: Sequence[float]


@dataclass
class ResourceMonitor:
    """Reads the processes that `living` names (name and pid) and the Redis behind `client`."""

    living: Callable[[], Iterable[tuple[str, int]]]
    client: Redis
    _begun: float = field(default_factory=time.monotonic)
    _processes: list[Reading] = field(default_factory=list)
    _store: list[StoreReading] = field(default_factory=list)
    _loads: list[float] = field(default_factory=list)

    async def run(self) -> None:
        """Read, until cancelled."""
        while True:
            await self._read()
            await asyncio.sleep(BEAT_S)

    def readings(self) -> Readings:
        return Readings(time.monotonic() - self._begun, self._processes, self._store, self._loads)

    async def _read(self) -> None:
        at = time.monotonic() - self._begun
        self._loads.append(os.getloadavg()[0])
        for name, pid in self.living():
            try:
                process = psutil.Process(pid)
                with process.oneshot():
                    used = process.memory_info().rss, process.num_fds()
                self._processes.append(Reading(at, name, pid, *used))
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue  # it died just now
        try:
            memory, keys = await self.client.info("memory"), await self.client.dbsize()
        except (RedisError, OSError):
            return  # it is one of the faults
        self._store.append(StoreReading(at, int(memory["used_memory"]), int(keys)))


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Least squares, per minute; None of fewer than three points. The first of each point is in seconds."""
    if len(points) < 3:
        return None
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    square = sum((x - mean_x) ** 2 for x, _ in points)
    return 60 * sum((x - mean_x) * (y - mean_y) for x, y in points) / square if square else None
