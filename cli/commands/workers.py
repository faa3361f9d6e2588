"""`baton workers`: lists, drains and starts workers."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from cli.client.server_options import JsonOption, Server
from cli.client.worker_lookup import ApiWorkers, RedisWorkers, WorkerSource
from cli.commands.completion import complete_worker
from cli.commands.ps import HomeOption, home_at, local_parts
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.supervisor.start_requests import StartRequests
from cli.terminal.table import print_table

_HEADINGS = ("id", "name", "host", "pid", "device", "model", "status", "jobs", "slots", "tokens/s")
_POLL_S = 0.1
#: A worker has drained within two seconds of the heartbeat that informs it.
_DRAIN_WAIT_S = 10.0
#: Longest time between the end of a drained worker's lease and the end of its process.
_EXIT_WAIT_S = 5.0
_RedisOption = Annotated[
    str | None, typer.Option("--redis-url", help="Use this Redis directly instead of the API.")
]
_WorkerArgument = Annotated[
    str,
    typer.Argument(
        metavar="WORKER", help="The worker's id, name or name@host.", autocompletion=complete_worker
    ),
]


def workers(
    context: typer.Context, server: Server, redis_url: _RedisOption = None, as_json: JsonOption = False
) -> None:
    """List the live workers; drain or start one."""
    context.obj = WorkerLookup(server, redis_url)
    if context.invoked_subcommand is not None:
        return
    with context.obj.source() as source:
        found = source.list()
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        print_table(_HEADINGS, map(_row, found))


def drain(
    context: typer.Context,
    worker: _WorkerArgument,
    server: Server,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the worker has left.")] = False,
    redis_url: _RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Drain a worker: hand its jobs to others, then stop it.

    This takes about two seconds and clients do not notice. `baton up` does not restart the worker until you run
    `baton workers start`.
    """
    lookup = WorkerLookup(server, redis_url)
    with (lookup if lookup.is_given else context.obj).source() as source:
        drained = source.drain(worker)
        if wait:
            _wait_until_gone(source, drained["id"])
    state = "drained" if wait else "draining"
    sys.stdout.write(json.dumps({**drained, "status": state}) if as_json else f"{drained['name']} {state}")
    sys.stdout.write("\n")


def start(
    worker: Annotated[
        str, typer.Argument(metavar="WORKER", help="The worker's name, as `baton ps` shows it.")
    ],
    home: HomeOption = None,
) -> None:
    """Start a drained worker again.

    The `baton up` of this machine starts it. If the worker is still draining, the command waits for that first.
    """
    deadline = time.monotonic() + _EXIT_WAIT_S
    while (state := _local_state(worker, home)) != "drained":
        if time.monotonic() > deadline:
            message = f"{worker} is {state}; only a drained worker can be started"
            raise CommandError(message, ExitCode.USAGE)
        time.sleep(_POLL_S)
    StartRequests(home_at(home).path).put(worker)
    sys.stdout.write(f"{worker} starting\n")


def _local_state(worker: str, home: str | None) -> str:
    part = next((p for p in local_parts(home) if (p.role, p.id) == ("worker", worker)), None)
    if part is None:
        message = f"`baton up` runs no worker named {worker} in this home; `baton ps` lists its workers"
        raise CommandError(message, ExitCode.NOT_FOUND)
    return part.state


@dataclass(frozen=True, slots=True)
class WorkerLookup:
    """Where to look up workers: the API, or Redis directly."""

    server: Server
    redis_url: str | None

    @property
    def is_given(self) -> bool:
        return (self.server, self.redis_url) != (Server(), None)

    @contextmanager
    def source(self) -> Iterator[WorkerSource]:
        """Redis if its URL is given, otherwise the API."""
        if self.redis_url:
            yield RedisWorkers(self.redis_url)
            return
        with self.server.client() as client:
            yield ApiWorkers(client)


def _wait_until_gone(source: WorkerSource, worker_id: str) -> None:
    deadline = time.monotonic() + _DRAIN_WAIT_S
    while any(worker["id"] == worker_id for worker in source.list()):
        if time.monotonic() > deadline:
            message = f"{worker_id} has not left after {_DRAIN_WAIT_S:g} s; see the worker's log"
            raise CommandError(message, ExitCode.FAILED)
        time.sleep(_POLL_S)


def _row(worker: dict[str, Any]) -> list[object]:
    """The cells under `_HEADINGS`."""
    return [*(worker[name] for name in _HEADINGS[:-1]), worker["stats"].get("tokens_per_second")]
