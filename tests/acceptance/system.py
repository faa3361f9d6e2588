"""The whole of Baton in real processes, as `baton up` starts it, in a home of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil

from tests.free_port import free_port

START_S = 90


class System:
    """One `baton up`. `settings` are BATON_* variables without the prefix."""

    def __init__(self, model: Path, **settings: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="baton-"))
        port, flower_port = free_port(), free_port()
        self.settings = {
            "HOME": str(self.home),
            "MODEL": str(model),
            "MODEL_NAME": "tiny",
            "PORT": str(port),
            "FLOWER_PORT": str(flower_port),
            "DEVICES": "cpu",
            "DTYPE": "float32",
            "THREADS": "1",
            "API_REPLICAS": "2",
            **settings,
        }
        self.urls = [f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"]
        self.flower_url = f"http://127.0.0.1:{flower_port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Run `baton up` until everything answers."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
        environ |= {f"BATON_{name}": value for name, value in self.settings.items()}
        with (self.home / "up.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "up"], env=environ, stdout=log, stderr=log
            )
        self.wait_until(self.is_ready, START_S)

    def is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        replicas = int(self.settings["API_REPLICAS"])
        return all(self._answers(f"{url}/health/ready") for url in self.urls[:replicas]) and self._answers(
            f"{self.flower_url}/healthcheck"
        )

    def stop(self) -> None:
        """Ctrl-C, and wait until it is over."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait(30) == 0, self.log()

    def kill(self) -> None:
        """kill -9 of `baton up` itself."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def remove(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()
        shutil.rmtree(self.home)

    def parts(self) -> list[dict[str, Any]]:
        """What `baton ps --json` lists."""
        listed = subprocess.run(
            [sys.executable, "-m", "cli.main", "ps", "--json"],
            env={**os.environ, "BATON_HOME": str(self.home)},
            capture_output=True,
            check=True,
            timeout=30,
        )
        found = json.loads(listed.stdout)
        assert isinstance(found, list)
        return found

    def part_pid(self, part_id: str) -> int:
        """The process of the part with this id."""
        return next(int(part["pid"]) for part in self.parts() if part["id"] == part_id)

    def processes(self) -> list[psutil.Process]:
        """Every living process that belongs to this home, `baton up` itself too."""
        return [
            process
            for process in psutil.process_iter()
            if process.status() != psutil.STATUS_ZOMBIE and self._is_mine(process)
        ]

    def openai(self, replica: int = 0) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.urls[replica]}/v1", api_key="none", max_retries=0, timeout=60)

    def http(self, replica: int = 0) -> httpx.Client:
        return httpx.Client(base_url=self.urls[replica], timeout=60)

    def log(self) -> str:
        return (self.home / "up.log").read_text()

    def wait_until(self, condition: Callable[[], bool], within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {within_s} s\n{self.log()}"
            time.sleep(0.05)

    def _answers(self, url: str) -> bool:
        try:
            return httpx.get(url, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def _is_mine(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("BATON_HOME") == str(self.home) or str(self.home) in process.cwd()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False
