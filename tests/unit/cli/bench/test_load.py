"""When requests are sent: at a fixed concurrency, or at drawn times whatever the server does."""

from __future__ import annotations

import asyncio
import time

import pytest

from cli.bench.load import Bounds, Level, run_load
from cli.bench.sample import Sample


class Recorder:
    """A server that takes some time and records its requests."""

    def __init__(self, takes_s: float) -> None:
        self._takes_s = takes_s
        self.numbers: list[int] = []
        self.due: list[float] = []
        self.running = self.most_running = 0

    async def send(self, number: int, due: float) -> Sample:
        self.numbers.append(number)
        self.due.append(due)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(self._takes_s)
        self.running -= 1
        return Sample(due)


@pytest.mark.parametrize(("concurrency", "most"), [(1, 1), (3, 3), (20, 10)])
async def test_a_closed_loop_keeps_so_many_running(concurrency: int, most: int) -> None:
    server = Recorder(0.002)
    samples = await run_load(Level("concurrency", concurrency), Bounds(10, None), server.send, seed=0)
    assert sorted(server.numbers) == list(range(10))
    assert (len(samples), server.most_running) == (10, most)


async def test_a_closed_loop_ends_with_its_time() -> None:
    server = Recorder(0.01)
    samples = await run_load(Level("concurrency", 2), Bounds(None, 0.1), server.send, seed=0)
    assert 2 <= len(samples) <= 22
    assert server.running == 0


async def test_arrivals_do_not_wait_for_answers() -> None:
    # No request is answered before all have arrived.
    all_there = asyncio.Barrier(20)

    async def send(number: int, due: float) -> Sample:
        del number
        await all_there.wait()
        return Sample(due)

    async with asyncio.timeout(20):
        samples = await run_load(Level("rate", 1000), Bounds(20, None), send, seed=1)
    assert len(samples) == 20


async def due_times(seed: int, stall_s: float = 0) -> list[float]:
    """Starts with the first request; then the whole client stalls."""
    due_times: list[float] = []

    async def send(number: int, due: float) -> Sample:
        due_times.append(due)
        time.sleep(0 if number else stall_s)
        return Sample(due)

    await run_load(Level("rate", 2000), Bounds(40, None), send, seed)
    return [round(due - due_times[0], 6) for due in due_times]


async def test_arrivals_are_drawn_and_the_same_for_the_same_seed() -> None:
    first, again, other = await due_times(1), await due_times(1), await due_times(2)
    assert first == again != other
    assert first == sorted(first) and len(set(first)) == 40


async def test_arrivals_that_come_late_keep_the_time_at_which_they_were_due() -> None:
    # A sender with coordinated omission would have moved all later requests behind the stall.
    assert await due_times(3, stall_s=0.05) == await due_times(3)


async def test_arrivals_end_with_their_time() -> None:
    server = Recorder(0)
    await run_load(Level("rate", 500), Bounds(None, 0.2), server.send, seed=0)
    assert 20 < len(server.numbers) < 250
    assert server.due[-1] - server.due[0] < 0.2
