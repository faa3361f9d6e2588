"""Nginx: deploy/nginx/nginx.conf in a real nginx, unprivileged, on free ports of 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

import psutil

from tests.free_port import free_port

CONF = Path(__file__).parents[3] / "deploy/nginx/nginx.conf"
WAIT_S = 10.0
#: What stands in the file for Docker's network, where replicas come and go by name.
_API_SERVER = "server api:8000 resolve max_fails=2 fail_timeout=5s;"
_FLOWER_SERVER = "server flower:5555 resolve;"


def find_nginx() -> str | None:
    """The binary; Debian puts it where only root looks."""
    return shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


class Nginx:
    """One nginx in front of replicas at these ports."""

    def __init__(
        self,
        binary: str,
        prefix: Path,
        replica_ports: list[int],
        *,
        flower_port: int = 1,
        receipt_ms: int = 15_000,
    ) -> None:
        self.port, self.flower_front_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.access_log = prefix / "access.log"
        self._log = prefix / "error.log"
        conf = prefix / "nginx.conf"
        conf.write_text(_localized(self, replica_ports, flower_port, receipt_ms))
        self._command = [binary, "-e", "stderr", "-p", f"{prefix}/", "-c", str(conf), "-g", "daemon off;"]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Nginx:
        with self.access_log.open("wb") as out, self._log.open("wb") as errors:
            self._process = subprocess.Popen(self._command, stdout=out, stderr=errors)
        deadline = time.monotonic() + WAIT_S
        while not _answers(self.port):
            assert self._process.poll() is None and time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        workers = self._children()
        self._process.terminate()
        self._process.wait(WAIT_S)
        # Old workers of a reload may still serve a stream that its test left open.
        for worker in workers:
            if worker.is_running():
                worker.kill()

    def reload(self) -> None:
        """`nginx -s reload`, and wait until workers with the new configuration run."""
        before = {worker.pid for worker in self._children()}
        subprocess.run([*self._command, "-s", "reload"], check=True, capture_output=True, timeout=WAIT_S)
        deadline = time.monotonic() + WAIT_S
        while not {worker.pid for worker in self._children()} - before:
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.01)

    def _children(self) -> list[psutil.Process]:
        assert self._process is not None
        return psutil.Process(self._process.pid).children()


def _localized(nginx: Nginx, replica_ports: list[int], flower_port: int, receipt_ms: int) -> str:
    """The file, with addresses of this machine in the place of Docker's names. All else stays."""
    replicas = " ".join(f"server 127.0.0.1:{port} max_fails=2 fail_timeout=5s;" for port in replica_ports)
    text = CONF.read_text()
    for there, here in (
        (_API_SERVER, replicas),
        (_FLOWER_SERVER, f"server 127.0.0.1:{flower_port};"),
        ("listen 8080 ", f"listen 127.0.0.1:{nginx.port} "),
        ("listen 5555;", f"listen 127.0.0.1:{nginx.flower_front_port};"),
        ("worker_processes auto;", "worker_processes 2;"),
        ("client_header_timeout 15s;", f"client_header_timeout {receipt_ms}ms;"),
        ("client_body_timeout 15s;", f"client_body_timeout {receipt_ms}ms;"),
    ):
        assert text.count(there) == 1, there
        text = text.replace(there, here)
    return text


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
