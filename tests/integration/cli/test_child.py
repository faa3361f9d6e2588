"""A child process: its log, and how it is stopped when it ignores SIGTERM."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cli.supervisor import child as module
from cli.supervisor.child import Child
from cli.supervisor.plan import ChildPlan
from cli.supervisor.state_file import Role

WAIT_S = 10.0


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def make(tmp_path: Path, lock: int, script: str) -> Child:
    return Child(ChildPlan("api", "api-1", ("/bin/sh", "-c", script), os.environ), tmp_path, lock)


async def test_one_that_ignores_sigterm_is_killed_with_all_that_it_started(tmp_path: Path, lock: int) -> None:
    child = make(tmp_path, lock, "trap '' TERM; sleep 60 & echo $!; while :; do sleep 60; done")
    await child.start()
    async with asyncio.timeout(WAIT_S):
        while not child.last_lines(1):
            await asyncio.sleep(0.01)
    grandchild = psutil.Process(int(child.last_lines(1)[0]))
    await child.stop(grace_s=0.1)
    assert (child.pid, child.state) == (None, "stopped")
    assert psutil.wait_procs([grandchild], timeout=WAIT_S)[1] == []


async def test_only_what_this_life_wrote_is_shown(tmp_path: Path, lock: int) -> None:
    child = make(tmp_path, lock, "echo $$; echo; echo done; exit 3")
    for _ in range(2):
        await child.start()
        assert await child.wait() == 3
    assert child.last_lines(9) == [str(child.last_pid), "done"]
    assert child.log.read_text().count("done") == 2
    assert child.log.stat().st_mode & 0o777 == 0o600


async def test_a_large_log_makes_room(tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOG_LIMIT", 3)
    child = make(tmp_path, lock, "echo line")
    for _ in range(3):
        await child.start()
        await child.wait()
    assert child.log.read_text() == "line\n"
    assert (tmp_path / "api-1.log.1").read_text() == "line\n"


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux knows it")
@pytest.mark.parametrize("role", ["api", "redis", "flower", "worker"])
async def test_all_but_workers_give_way(tmp_path: Path, lock: int, role: Role) -> None:
    plan = ChildPlan(role, "one", ("/bin/sleep", "60"), os.environ)
    child = Child(plan, tmp_path, lock)
    await child.start()
    assert child.pid is not None
    assert os.sched_getscheduler(child.pid) == (os.SCHED_OTHER if role == "worker" else os.SCHED_BATCH)
    await child.stop(grace_s=WAIT_S)


async def test_what_it_writes_is_for_this_user_alone(tmp_path: Path, lock: int) -> None:
    child = make(tmp_path, lock, f"echo prompt > {tmp_path}/file; mkdir {tmp_path}/folder")
    await child.start()
    await child.wait()
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("file", "folder")] == [0o600, 0o700]
