"""Baton as `baton up` starts it, with its defaults: API, Redis, Celery, worker, Flower."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.peers.peer import Peer
from bench.server_process import free_port


def baton(model: Path, home: Path, slots: int, version: str) -> Peer:
    """`home` is its own: Redis's data, logs and passwords."""
    options = {
        "home": home,
        "model": model,
        "model-name": "bench",
        "port": "{port}",
        "flower-port": free_port(),
        "devices": "cpu",
        "max-slots": slots,
    }
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    return Peer(
        name="baton",
        version=f"baton {version}",
        command=(sys.executable, "-m", "cli.main", "up", *flags),
        model="bench",
        extra={"ignore_eos": True},
    )
