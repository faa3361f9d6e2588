"""Starts a server to be measured, and reads its CPU time."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil


class ServerProcess:
    """`python -m <command>`, which listens on `port` of this machine."""

    def __init__(self, command: Sequence[str], environ: dict[str, str], port: int) -> None:
        self.port = port
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
        self._process = subprocess.Popen([sys.executable, "-m", *command], env={**clean, **environ})
        deadline = time.monotonic() + 30
        while not self._listens():
            assert time.monotonic() < deadline and self._process.poll() is None
            time.sleep(0.05)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def cpu_s(self) -> float:
        """CPU time of all threads so far, with a resolution of 10 ms."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextmanager
def api_process(redis_url: str, model: str, **settings: str) -> Iterator[ServerProcess]:
    """Runs an API replica. `settings` are BATON_* variables without the prefix."""
    port = free_port()
    own = {"REDIS_URL": redis_url, "PORT": str(port), "MODEL_NAME": model, "LOG_LEVEL": "warning", **settings}
    server = ServerProcess(["api.main"], {f"BATON_{name}": value for name, value in own.items()}, port)
    try:
        yield server
    finally:
        server.close()
