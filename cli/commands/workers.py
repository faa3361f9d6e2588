"""`baton workers`: who generates; `drain` tells one to leave, `start` has `baton up` bring it back."""

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
#: A drain is over within two seconds of the beat that tells of it.
_DRAIN_WAIT_S = 10.0
#: Between the end of a drained worker's lease and that of its process.
_EXIT_WAIT_S = 5.0
_RedisOption = Annotated[
    str | None, typer.Option("--redis-url", help="Ask this Redis itself, where no API can be reached.")
]
_WorkerArgument = Annotated[
    str,
    typer.Argument(metavar="WORKER", help="Its id, name or name@host.", autocompletion=complete_worker),
]


def workers(
    context: typer.Context, server: Server, redis_url: _RedisOption = None, as_json: JsonOption = False
) -> None:
    """List the living workers, with what they do."""
    context.obj = Asked(server, redis_url)
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
    wait: Annotated[bool, typer.Option("--wait", help="Stay until it is gone.")] = False,
    redis_url: _RedisOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have a worker leave in order: it claims no more and hands its jobs on, within two seconds or so.

    Clients notice nothing. `baton up` does not start it again before `baton workers start` asks for it.
    """
    asked = Asked(server, redis_url)
    with (asked if asked.is_given else context.obj).source() as source:
        told = source.drain(worker)
        if wait:
            _wait_until_gone(source, told["id"])
    state = "drained" if wait else "draining"
    sys.stdout.write(json.dumps({**told, "status": state}) if as_json else f"{told['name']} {state}")
    sys.stdout.write("\n")


def start(
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="Its name, as `baton ps` shows it.")],
    home: HomeOption = None,
) -> None:
    """Have the `baton up` of this machine start a drained worker again; one that is leaving is waited for."""
    deadline = time.monotonic() + _EXIT_WAIT_S
    while (state := _local_state(worker, home)) != "drained":
        if time.monotonic() > deadline:
            raise CommandError(f"{worker} is not drained but {state}", ExitCode.USAGE)
        time.sleep(_POLL_S)
    StartRequests(home_at(home).path).put(worker)
    sys.stdout.write(f"{worker} starts\n")


def _local_state(worker: str, home: str | None) -> str:
    part = next((p for p in local_parts(home) if (p.role, p.id) == ("worker", worker)), None)
    if part is None:
        raise CommandError(f"`baton up` has no worker {worker} here", ExitCode.NOT_FOUND)
    return part.state


@dataclass(frozen=True, slots=True)
class Asked:
    """Where the workers are to be found."""

    server: Server
    redis_url: str | None

    @property
    def is_given(self) -> bool:
        return (self.server, self.redis_url) != (Server(), None)

    @contextmanager
    def source(self) -> Iterator[WorkerSource]:
        """Redis, where it is named, else the API."""
        if self.redis_url:
            yield RedisWorkers(self.redis_url)
            return
        with self.server.client() as client:
            yield ApiWorkers(client)


def _wait_until_gone(source: WorkerSource, worker_id: str) -> None:
    deadline = time.monotonic() + _DRAIN_WAIT_S
    while any(worker["id"] == worker_id for worker in source.list()):
        if time.monotonic() > deadline:
            message = f"{worker_id} is still there after {_DRAIN_WAIT_S:g} s; its log may say why"
            raise CommandError(message, ExitCode.FAILED)
        time.sleep(_POLL_S)


def _row(worker: dict[str, Any]) -> list[object]:
    """As `_HEADINGS` name it."""
    return [*(worker[name] for name in _HEADINGS[:-1]), worker["stats"].get("tokens_per_second")]
