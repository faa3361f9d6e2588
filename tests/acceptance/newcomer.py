"""A newcomer: a copy of the project, an empty home, and the commands of the README."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.acceptance.documents import ROOT
from tests.free_port import free_port

#: Installing the pins takes minutes where pip has to fetch them.
INSTALL_S = 900


class Newcomer:
    """Somebody at a terminal in a fresh clone. Whatever the project leaves anywhere is below `place`."""

    def __init__(self, place: Path) -> None:
        self.clone, self.temporary = place / "baton", place / "tmp"
        self.temporary.mkdir()
        _copy_tracked_files(self.clone)
        port, flower_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = place / "run.log"
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(place),
            "TMPDIR": str(self.temporary),
            "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache/pip")),
            "BATON_PORT": str(port),
            "BATON_FLOWER_PORT": str(flower_port),
            "BATON_DEVICES": "cpu,cpu",
            **_pip_settings(),
        }
        self._running: subprocess.Popen[bytes] | None = None

    def make_run(self) -> None:
        """`make run`, until both workers are ready."""
        with self.log.open("wb") as log:
            self._running = subprocess.Popen(
                ["make", "run", f"PYTHON={sys.executable}"],
                cwd=self.clone,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.until(self._is_ready, INSTALL_S)

    def baton(self, *arguments: str) -> str:
        """What `baton` prints. Fails when it fails."""
        ended = subprocess.run(
            [self.clone / ".venv/bin/baton", *arguments],
            cwd=self.clone,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ended.returncode == 0, f"{arguments}\n{ended.stdout}\n{ended.stderr}\n{self.log.read_text()}"
        return ended.stdout

    def part(self, part_id: str) -> dict[str, Any]:
        """A line of `baton ps --json`."""
        listed: list[dict[str, Any]] = json.loads(self.baton("ps", "--json"))
        return next(part for part in listed if part["id"] == part_id)

    def job(self, job_id: str, wait_s: int = 0) -> dict[str, Any]:
        answer = httpx.get(f"{self.url}/v1/jobs/{job_id}", params={"wait": wait_s}, timeout=wait_s + 30)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def control_c(self) -> int:
        """What a terminal does: SIGINT to the whole process group. Answers make's exit code."""
        assert self._running is not None
        os.killpg(self._running.pid, signal.SIGINT)
        return self._running.wait(60)

    def processes(self) -> list[psutil.Process]:
        """Living processes that were started from here."""
        return [process for process in psutil.process_iter() if _is_below(process, self.clone)]

    def leave(self) -> None:
        """End whatever still runs."""
        for process in self.processes():
            process.kill()
        if self._running is not None:
            self._running.kill()
            self._running.wait()

    def until(self, condition: Callable[[], bool], within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {within_s} s\n{self.log.read_text()}"
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        assert self._running is not None and self._running.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=5).status_code == 200 and all(
                self.part(worker)["state"] == "ready" for worker in ("worker-1", "worker-2")
            )
        except httpx.TransportError:
            return False


def _pip_settings() -> dict[str, str]:
    """Where this machine's pip finds packages; another HOME has no configuration."""
    own = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    file = Path.home() / ".config/pip/pip.conf"
    return {"PIP_CONFIG_FILE": str(file), **own} if file.exists() else own


def _copy_tracked_files(clone: Path) -> None:
    """What `git clone` would bring, as it stands in this working tree."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, clone / name)


def _is_below(process: psutil.Process, place: Path) -> bool:
    try:
        is_alive = process.status() != psutil.STATUS_ZOMBIE
        return is_alive and Path(process.cwd()).is_relative_to(place)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
