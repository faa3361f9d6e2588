"""The order in which a Supervisor starts its children."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from cli.supervisor.plan import ChildPlan
from cli.supervisor.start_requests import StartRequests
from cli.supervisor.state_file import Role
from cli.supervisor.supervisor import Supervisor

WAIT_S = 10.0
ROLES: tuple[Role, ...] = ("redis", "api", "worker", "flower")


class Start:
    """Starts one child per role. The test decides when each of them is ready."""

    def __init__(self, home: Path, lock: int) -> None:
        (home / "run").mkdir()
        self.ready: set[Role] = set()
        self.supervisor = Supervisor(
            [ChildPlan(role, role, ("sleep", "60"), os.environ) for role in ROLES],
            logs=home,
            lock=lock,
            probe=self._is_ready,
            on_worker_death=self._ignore,
            on_change=lambda _children: None,
            requests=StartRequests(home),
        )
        self.is_up = asyncio.Event()
        self._num_probes = 0
        self._work = asyncio.create_task(self._start())

    async def _start(self) -> None:
        async with asyncio.TaskGroup() as keepers:
            await self.supervisor.start(keepers)
            self.is_up.set()

    async def _is_ready(self, plan: ChildPlan, _pid: int) -> bool:
        self._num_probes += 1
        return plan.role in self.ready

    async def _ignore(self, _name: str, _pid: int) -> None:
        pass

    @property
    def running(self) -> set[Role]:
        return {child.plan.role for child in self.supervisor.children if child.pid is not None}

    async def runs(self, *roles: Role) -> None:
        """Waits until these run and were probed several times. No other child may run."""
        async with asyncio.timeout(WAIT_S):
            while self.running != set(roles):
                await asyncio.sleep(0.01)
            enough = self._num_probes + 4 * len(roles)
            while self._num_probes < enough:
                assert self.running == set(roles)
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        self._work.cancel()
        with suppress(asyncio.CancelledError):
            await self._work
        await self.supervisor.stop()


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    start = Start(tmp_path, lock)
    yield start
    await start.end()
    os.close(lock)


async def test_redis_goes_first_and_flower_waits_for_the_api_alone(start: Start) -> None:
    await start.runs("redis")
    start.ready.add("redis")
    await start.runs("redis", "api", "worker")
    start.ready.add("api")
    await start.runs(*ROLES)
    start.ready.add("flower")
    assert not start.is_up.is_set()
    start.ready.add("worker")
    await asyncio.wait_for(start.is_up.wait(), WAIT_S)
