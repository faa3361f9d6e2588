"""Decides when requests are sent: a closed loop with fixed concurrency, or Poisson arrivals at a fixed rate."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from cli.bench.sample import Sample

#: Sends request `number`, which is due at this time of `time.perf_counter`.
Send = Callable[[int, float], Awaitable[Sample]]


@dataclass(frozen=True, slots=True)
class Level:
    """How much load: concurrent requests, or requests per second."""

    kind: Literal["concurrency", "rate"]
    value: float

    def __str__(self) -> str:
        return f"{self.value:g}" if self.kind == "concurrency" else f"{self.value:g}/s"


@dataclass(frozen=True, slots=True)
class Bounds:
    """A run ends when it reaches either bound. At least one is set."""

    requests: int | None
    duration_s: float | None

    def allows(self, number: int, elapsed_s: float) -> bool:
        """Whether request `number`, counted from 0, may still be sent."""
        is_within_count = self.requests is None or number < self.requests
        return is_within_count and (self.duration_s is None or elapsed_s < self.duration_s)


async def run_load(level: Level, bounds: Bounds, send: Send, seed: int) -> list[Sample]:
    """Returns all samples once the last request has ended."""
    if level.kind == "concurrency":
        return await _closed_loop(int(level.value), bounds, send)
    return await _poisson(level.value, bounds, send, seed)


async def _closed_loop(concurrency: int, bounds: Bounds, send: Send) -> list[Sample]:
    samples: list[Sample] = []
    started, number = time.perf_counter(), 0

    async def client() -> None:
        nonlocal number
        while bounds.allows(number, (now := time.perf_counter()) - started):
            number += 1
            samples.append(await send(number - 1, now))

    async with asyncio.TaskGroup() as clients:
        for _ in range(concurrency):
            clients.create_task(client())
    return samples


async def _poisson(rate: float, bounds: Bounds, send: Send, seed: int) -> list[Sample]:
    """Requests are due at their drawn times even if earlier ones are late, which avoids coordinated omission."""
    source = random.Random(seed)
    samples: list[Sample] = []

    async def arrive(number: int, due: float) -> None:
        samples.append(await send(number, due))

    started, number, due_s = time.perf_counter(), 0, source.expovariate(rate)
    async with asyncio.TaskGroup() as arrivals:
        while bounds.allows(number, due_s):
            await asyncio.sleep(started + due_s - time.perf_counter())
            arrivals.create_task(arrive(number, started + due_s))
            number, due_s = number + 1, due_s + source.expovariate(rate)
    return samples
