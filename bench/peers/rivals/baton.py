"""Baton as `baton up` starts it, with its defaults: API, Redis, Celery, worker, Flower."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from bench.harness.server_process import free_port
from bench.peers.peer import Peer


def baton(model: Path, home: Path, slots: int, version: str, settings: Mapping[str, str]) -> Peer:
    """`home` must not be shared: it holds Redis's data and logs. `settings` are BATON_* without the prefix."""
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
        name=" ".join(["baton", *(f"{name}={value}" for name, value in settings.items())]),
        version=f"baton {version}",
        command=(sys.executable, "-m", "cli.main", "up", *flags),
        model="bench",
        environ={f"BATON_{name.upper()}": value for name, value in settings.items()},
        extra={"ignore_eos": True},
    )
