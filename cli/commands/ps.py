"""`baton ps`: lists what is running."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from dataclasses import asdict, replace
from typing import Annotated

import psutil
import typer

from cli.client.endpoint import home_of
from cli.client.server_options import JsonOption
from cli.client.worker_lookup import read_workers, redis_url_option
from cli.exit_codes import ExitCode
from cli.supervisor.setup.home import Home
from cli.supervisor.state_file import ChildState, StateFile
from cli.terminal.table import print_table
from shared import settings
from shared.domain.lease import WorkerState
from shared.errors import StoreUnavailable

RedisOption = Annotated[
    str | None,
    typer.Option("--redis-url", help="Default: BATON_REDIS_URL, or the Redis that `baton up` started."),
]
HomeOption = Annotated[str | None, typer.Option("--home", help="Default: BATON_HOME, or .baton.")]


def ps(as_json: JsonOption = False, home: HomeOption = None, redis_url: RedisOption = None) -> None:
    """List the running processes and workers.

    Shows what `baton up` runs on this machine, and the workers of other machines that use the same Redis. Exits
    with 3 if nothing is running.
    """
    parts = local_parts(home)
    remote = remote_parts(_workers_if_reachable(_redis_url(redis_url, parts)), parts)
    if as_json:
        sys.stdout.write(json.dumps([asdict(part) for part in [*parts, *remote]]) + "\n")
    else:
        print_table(
            ("role", "id", "pid", "url", "device", "state"),
            [[part.role, part.id, part.pid, part.url, part.device, part.state] for part in [*parts, *remote]],
        )
    if not remote and all(part.pid is None for part in parts):
        raise typer.Exit(ExitCode.UNREACHABLE)


def local_parts(home: str | None) -> list[ChildState]:
    """The contents of `up.json`, with processes that have ended marked as stopped."""
    directory = home_at(home)
    parts = StateFile(directory.path).read()
    is_up = directory.is_locked
    return [part if is_up and _is_running(part) else _without_process(part, is_up) for part in parts]


def home_at(path: str | None) -> Home:
    """The home given by `--home`, or else the one of this command line."""
    return home_of({"BATON_HOME": path} if path else os.environ)


def remote_parts(found: list[WorkerState], local: list[ChildState]) -> list[ChildState]:
    """The workers outside this home, by `name@host`."""
    own = {(socket.gethostname(), part.pid) for part in local}
    return [
        ChildState("worker", f"{worker.name}@{worker.host}", worker.pid, None, worker.device, "ready")
        for worker in found
        if (worker.host, worker.pid) not in own
    ]


def _is_running(part: ChildState) -> bool:
    return part.pid is not None and psutil.pid_exists(part.pid)


def _without_process(part: ChildState, is_up: bool) -> ChildState:
    may_lack_process = is_up and part.state in ("starting", "restarting", "drained")
    return replace(part, pid=None, state=part.state if may_lack_process else "stopped")


def _redis_url(given: str | None, parts: list[ChildState]) -> str | None:
    """Raises CommandError and SettingsError."""
    if given:
        return redis_url_option(given)
    local = [part.url for part in parts if part.role == "redis" and part.pid is not None]
    return settings.Environment(os.environ).read(settings.REDIS_URL) or (local[0] if local else None)


def _workers_if_reachable(url: str | None) -> list[WorkerState]:
    if url is None:
        return []
    try:
        return asyncio.run(read_workers(url))
    except StoreUnavailable:
        return []
