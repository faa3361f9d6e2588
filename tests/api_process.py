"""ApiProcess: runs an API replica in a process that a test may kill."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import httpx
import psutil

from tests.free_port import free_port

WAIT_S = 20.0


class ApiProcess:
    """`python -m api.main` on a free port. `settings` are BATON_* variables without the prefix."""

    def __init__(self, redis_url: str, model: str, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        values = {
            "REDIS_URL": redis_url,
            "PORT": str(self.port),
            "MODEL_NAME": model,
            "LEASE_S": "60",
            **settings,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
        self._environ = kept | {f"BATON_{name}": value for name, value in values.items()}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "api.main"], env=self._environ)

    def wait_up(self) -> None:
        """Wait up to 20 seconds until it answers."""
        deadline = time.monotonic() + WAIT_S
        while not self._answers():
            assert self._process is not None and self._process.poll() is None, "the API ended"
            assert time.monotonic() < deadline, "the API does not start"
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill it with SIGKILL. Does nothing if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def rss_bytes(self) -> int:
        """Its resident memory."""
        assert self._process is not None
        rss: int = psutil.Process(self._process.pid).memory_info().rss
        return rss

    @property
    def cpu_s(self) -> float:
        """CPU time that it has used."""
        assert self._process is not None
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def has_connections(self) -> bool:
        """Whether a client is connected."""
        assert self._process is not None
        found = psutil.Process(self._process.pid).net_connections("tcp")
        return any(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == self.port for one in found)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/live", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False
