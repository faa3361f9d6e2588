"""`baton up` with real processes: what it starts, restarts, stops and leaves behind."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cli.exit_codes import ExitCode
from cli.supervisor.state_file import ChildState, StateFile
from shared.domain.job import NewJob, new_job_id
from shared.domain.lease import Lease, WorkerState
from shared.domain.request import GenerationRequest, TextPrompt
from shared.store.job_store import JobStore
from shared.store.redis_client import connect
from tests.free_port import free_port

WAIT_S = 20.0


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s: {what}"
        time.sleep(0.02)


class Up:
    """A home, and the `baton up` that runs in it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.order = home / "order"
        self.output = home / "output"
        self._process: subprocess.Popen[bytes] | None = None
        self._state_file = StateFile(home)

    def start(self, *worker_command: str) -> None:
        ports = (str(free_port()), str(free_port()))
        module = "tests.integration.cli.up_with_stand_ins"
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(self.home), *ports, *worker_command],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"PATH": "/usr/bin:/bin", "STAND_IN_ORDER": str(self.order)},
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def states(self) -> dict[str, ChildState]:
        return {child.id: child for child in self._state_file.read()}

    def wait_ready(self) -> dict[str, ChildState]:
        wait_until(lambda: "Ctrl-C stops everything" in self.output.read_text(), "everything ready")
        return self.states()

    def left_over(self) -> list[str]:
        """The processes of this home that still run."""
        return [process.name() for process in psutil.process_iter() if self._is_mine(process)]

    def _is_mine(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("STAND_IN_ORDER") == str(self.order)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False

    def end(self) -> None:
        """Kills what a failed test left behind."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path)
    yield up
    up.end()


def pids(states: dict[str, ChildState]) -> dict[str, int]:
    return {name: child.pid for name, child in states.items() if child.pid is not None}


def test_starts_all_parts_and_stops_them_in_order(up: Up) -> None:
    up.start()
    states = up.wait_ready()
    assert {name: child.state for name, child in states.items()} == {
        "redis": "ready",
        "api-1": "ready",
        "worker-1": "ready",
        "flower": "ready",
    }
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(WAIT_S) == 0
    order = up.order.read_text().split()
    assert (order[0], sorted(order[1:])) == ("worker", ["api", "flower"])
    assert up.left_over() == []
    assert {child.state for child in up.states().values()} == {"stopped"}


def test_a_part_that_is_killed_comes_back(up: Up) -> None:
    up.start()
    before = pids(up.wait_ready())
    for part in ("redis", "api-1", "worker-1", "flower"):
        psutil.Process(before[part]).kill()
        wait_until(lambda: _is_another(up, part, before[part]), f"another {part}")  # noqa: B023
        after = pids(up.states())
        assert {name for name in before if after[name] != before[name]} == {part}
        assert f"{part:<10} restarting killed by SIGKILL, restarting in 0.1 s" in up.output.read_text()
        before = after


def test_a_drained_worker_stays_away_until_it_is_wanted(up: Up) -> None:
    up.start()
    before = pids(up.wait_ready())
    psutil.Process(before["worker-1"]).send_signal(signal.SIGUSR1)
    wait_until(lambda: up.states()["worker-1"].state == "drained", "the drain")
    assert "restarting" not in up.output.read_text()
    (shown,) = [part for part in baton_json(up, "ps", "--json") if part["id"] == "worker-1"]
    assert (shown["state"], shown["pid"]) == ("drained", None)
    # The other workers are still restarted.
    psutil.Process(before["api-1"]).kill()
    wait_until(lambda: _is_another(up, "api-1", before["api-1"]), "another api-1")
    assert up.states()["worker-1"].state == "drained"
    assert baton(up, "workers", "start", "worker-1").stdout == "worker-1 starting\n"
    wait_until(lambda: _is_another(up, "worker-1", before["worker-1"]), "another worker-1")
    refused = baton(up, "workers", "start", "worker-1")
    assert (refused.returncode, refused.stderr) == (
        2,
        "baton: worker-1 is ready; only a drained worker can be started\n",
    )
    assert baton(up, "workers", "start", "worker-9").returncode == ExitCode.NOT_FOUND


def test_a_worker_that_is_leaving_starts_again_when_it_has_left(up: Up) -> None:
    up.start()
    before = pids(up.wait_ready())["worker-1"]
    psutil.Process(before).send_signal(signal.SIGUSR2)
    assert baton(up, "workers", "start", "worker-1").stdout == "worker-1 starting\n"
    wait_until(lambda: _is_another(up, "worker-1", before), "another worker-1")


async def test_jobs_of_a_killed_worker_wait_again_before_any_lease_runs_out(up: Up) -> None:
    up.start()
    states = up.wait_ready()
    redis = connect(states["redis"].url or "", timeout_s=5)
    store = JobStore(redis)
    (worker,) = await store.workers()
    job = NewJob(new_job_id(), "stand-in", "owner", GenerationRequest((TextPrompt(""),)))
    await store.create(job)
    await store.claim(_lease_of(worker), "word")
    psutil.Process(worker.pid).kill()
    async with asyncio.timeout(WAIT_S):
        while await redis.llen("baton:baton.stand-in") != 1:
            await asyncio.sleep(0.02)
    found = await store.get(job.id)
    assert found is not None
    assert (found.status, found.deaths) == ("queued", 1)
    await redis.aclose()


async def test_nothing_survives_a_killed_baton_up_and_the_next_one_goes_on_from_the_file(up: Up) -> None:
    up.start()
    states = up.wait_ready()
    redis = connect(states["redis"].url or "", timeout_s=5)
    job = NewJob(new_job_id(), "stand-in", "owner", GenerationRequest((TextPrompt(""),)))
    await JobStore(redis).create(job)
    await redis.aclose()
    up.process.kill()
    up.process.wait()
    wait_until(lambda: up.left_over() == [], "the end of the children")
    up.start()
    redis = connect(up.wait_ready()["redis"].url or "", timeout_s=5)
    assert await JobStore(redis).get(job.id) is not None
    await redis.aclose()


def test_the_home_says_which_redis_wrote_its_data(up: Up) -> None:
    up.start()
    up.wait_ready()
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(WAIT_S) == 0
    folder = up.home / "redis"
    assert (folder / "version").read_text().startswith("redis 6.2.")
    assert {path.name: path.stat().st_mode & 0o077 for path in folder.iterdir()} == {
        "version": 0,
        "appendonly.aof": 0,
    }
    (folder / "appendonly.aof").unlink()
    up.start()
    assert up.process.wait(WAIT_S) == ExitCode.CONFIG
    assert "has no append-only file now" in up.output.read_text()


def test_a_damaged_file_is_no_empty_start(up: Up) -> None:
    up.start()
    up.wait_ready()
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(WAIT_S) == 0
    file = up.home / "redis" / "appendonly.aof"
    damaged = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$9\r\nshort\r\n" + file.read_bytes()
    file.write_bytes(damaged)
    up.start()
    assert up.process.wait(WAIT_S) == ExitCode.FAILED
    assert "Bad file format reading the append only file" in up.output.read_text()
    assert file.read_bytes() == damaged


def test_a_second_one_on_the_same_home_is_refused(up: Up) -> None:
    up.start()
    up.wait_ready()
    second = subprocess.run(
        [sys.executable, "-m", "tests.integration.cli.up_with_stand_ins", str(up.home), "1", "2"],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert second.returncode == ExitCode.CONFIG
    assert f"another `baton up` (process {up.process.pid}) is using {up.home}" in second.stderr


def test_a_configuration_error_stops_everything_with_its_reason(up: Up) -> None:
    up.start("/bin/sh", "-c", "echo BATON_X is wrong >&2; exit 78")
    assert up.process.wait(WAIT_S) == ExitCode.CONFIG
    assert "worker-1 failed to start: exited with code 78\nBATON_X is wrong\n" in up.output.read_text()
    assert up.left_over() == []


def test_a_part_that_keeps_dying_at_the_start_is_given_up(up: Up) -> None:
    up.start("/bin/sh", "-c", "echo no luck; exit 3")
    assert up.process.wait(WAIT_S) == ExitCode.FAILED
    assert up.output.read_text().count("worker-1   restarting exited with code 3") == 2
    assert "worker-1 failed to start: exited with code 3\nno luck\n" in up.output.read_text()


def baton(up: Up, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a client command in this home."""
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        env={"PATH": "/usr/bin:/bin", "BATON_HOME": str(up.home)},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )


def baton_json(up: Up, *arguments: str) -> Any:
    return json.loads(baton(up, *arguments).stdout)


def _is_another(up: Up, part: str, pid: int) -> bool:
    state = up.states()[part]
    return state.state == "ready" and state.pid != pid


def _lease_of(worker: WorkerState) -> Lease:
    return Lease(
        worker_instance=worker.worker_instance,
        name=worker.name,
        model=worker.model,
        host=worker.host,
        pid=worker.pid,
        device=worker.device,
        slots=worker.slots,
        model_revision="none",
    )
