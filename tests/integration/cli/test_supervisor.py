"""The order in which a Supervisor starts its children, and what does not end it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from cli.supervisor.child import Child
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
        self.deaths: list[tuple[str, int]] = []
        self.probe_error: Exception | None = None
        self.notice_error: Exception | None = None
        self.notice_may_end = asyncio.Event()
        self.supervisor = Supervisor(
            [ChildPlan(role, role, ("sleep", "60"), os.environ) for role in ROLES],
            logs=home,
            lock=lock,
            probe=self._is_ready,
            on_worker_death=self._hear,
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
        if self.probe_error is not None:
            raise self.probe_error
        return plan.role in self.ready

    async def _hear(self, name: str, pid: int) -> None:
        self.deaths.append((name, pid))
        if self.notice_error is not None:
            raise self.notice_error
        await self.notice_may_end.wait()

    def child(self, role: Role) -> Child:
        return next(child for child in self.supervisor.children if child.plan.role == role)

    async def is_up_with_all(self) -> None:
        self.ready.update(ROLES)
        await asyncio.wait_for(self.is_up.wait(), WAIT_S)

    async def restarts(self, role: Role) -> None:
        """Kills a child and waits until another one is ready in its place."""
        before = self.child(role).pid
        self.child(role).kill()
        async with asyncio.timeout(WAIT_S):
            while self.child(role).pid in (None, before) or self.child(role).state != "ready":
                await asyncio.sleep(0.01)

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


async def test_a_notice_that_fails_or_hangs_stops_nothing(start: Start) -> None:
    await start.is_up_with_all()
    await start.restarts("worker")
    start.notice_error = ValueError("an error of a kind that nobody expects")
    await start.restarts("worker")
    await start.restarts("api")
    assert [name for name, _ in start.deaths] == ["worker", "worker"]


async def test_a_probe_that_fails_says_not_ready(start: Start) -> None:
    start.probe_error = ValueError("an error of a kind that nobody expects")
    await start.runs("redis")
    start.probe_error = None
    await start.is_up_with_all()


async def test_a_process_that_the_system_refuses_is_started_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start.is_up_with_all()
    begin, refusals = Child.start, [OSError(11, "no more processes"), OSError(28, "no space left")]

    async def refused(child: Child) -> None:
        if refusals:
            raise refusals.pop()
        await begin(child)

    monkeypatch.setattr(Child, "start", refused)
    await start.restarts("api")
    assert refusals == []
