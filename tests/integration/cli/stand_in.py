"""A light process that replaces one of Baton's: `python -m tests.integration.cli.stand_in <role> …`.

On SIGTERM it adds its role to the file STAND_IN_ORDER names, and ends. On SIGUSR1 it ends as a drained
worker does, on SIGUSR2 likewise, but slowly.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import FrameType

from shared.domain.lease import Lease
from shared.runtime.exit_codes import EX_DRAINED
from shared.store.job_store import JobStore
from shared.store.redis_client import connect


class Healthy(BaseHTTPRequestHandler):
    """Answers every GET with 200."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Do not log requests."""


async def register(url: str, name: str) -> None:
    redis = connect(url, timeout_s=5)
    lease = Lease(
        worker_instance=f"{name}-{secrets.token_hex(4)}",
        name=name,
        model="stand-in",
        host=socket.gethostname(),
        pid=os.getpid(),
        device="cpu",
        slots=1,
        model_revision="none",
    )
    await JobStore(redis).register(lease)
    await redis.aclose()


def on_term(_number: int, _frame: FrameType | None) -> None:
    with Path(os.environ["STAND_IN_ORDER"]).open("a") as order:
        order.write(sys.argv[1] + "\n")
    sys.exit(0)


def on_drain(number: int, _frame: FrameType | None) -> None:
    if number == signal.SIGUSR2:
        time.sleep(2)
    sys.exit(EX_DRAINED)


def main() -> None:
    role, *rest = sys.argv[1:]
    signal.signal(signal.SIGTERM, signal.SIG_IGN if rest[-1:] == ["deaf"] else on_term)
    signal.signal(signal.SIGUSR1, on_drain)
    signal.signal(signal.SIGUSR2, on_drain)
    if role == "worker":
        asyncio.run(register(os.environ["BATON_REDIS_URL"], rest[0]))
        while True:
            signal.pause()
    HTTPServer(("127.0.0.1", int(rest[0])), Healthy).serve_forever()


if __name__ == "__main__":
    main()
