"""`baton workers` and the completion of ids, through the API and through Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.exit_codes import ExitCode
from shared.store.job_store import JobStore
from tests.integration.cli.clients import WAIT_S, Command, Done, Replica, ScriptedWorker
from tests.redis_server import RedisServer


@pytest.fixture(params=["api", "redis"])
def reaching(
    request: pytest.FixtureRequest, replicas: tuple[Replica, Replica], redis_server: RedisServer
) -> list[str]:
    """The options that select the API or Redis."""
    return ["--url", replicas[0].url] if request.param == "api" else ["--redis-url", redis_server.url]


async def done(home: Path, *arguments: str) -> Done:
    return await (await Command.start(home, *arguments)).done()


async def test_a_worker_is_listed_and_told_to_drain(
    tmp_path: Path, worker: ScriptedWorker, store: JobStore, reaching: list[str]
) -> None:
    listed = json.loads((await done(tmp_path, "workers", "--json", *reaching)).out)
    assert [(w["id"], w["name"], w["status"]) for w in listed] == [
        (worker.worker_instance, "worker-1", "ready")
    ]
    assert await done(tmp_path, "workers", "drain", "worker-1", *reaching) == Done(
        0, "worker-1 draining\n", ""
    )
    assert [found.is_draining for found in await store.workers()] == [True]
    table = (await done(tmp_path, "workers", *reaching)).out
    assert "draining" in table and "\x1b" not in table
    # Options before the subcommand work as well.
    told = await done(tmp_path, "workers", *reaching, "drain", worker.worker_instance, "--json")
    assert json.loads(told.out)["status"] == "draining"


async def test_wait_ends_when_the_worker_is_gone(
    tmp_path: Path, worker: ScriptedWorker, store: JobStore, reaching: list[str]
) -> None:
    command = await Command.start(tmp_path, "workers", "drain", "worker-1", "--wait", *reaching)

    async def is_told() -> bool:
        return any(found.is_draining for found in await store.workers())

    while not await is_told():
        pass
    await store.release(worker.worker_instance, "drain", died=False)
    assert await command.done() == Done(0, "worker-1 drained\n", "")


async def test_a_worker_that_is_not_there(
    tmp_path: Path, worker: ScriptedWorker, reaching: list[str]
) -> None:
    del worker
    missing = await done(tmp_path, "workers", "drain", "worker-9", *reaching)
    assert (missing.code, missing.out, missing.err.count("\n")) == (ExitCode.NOT_FOUND, "", 1)


async def test_the_shell_completes_ids(
    tmp_path: Path, baton: Any, worker: ScriptedWorker, replicas: tuple[Replica, Replica]
) -> None:
    del worker
    job_id = (await (await baton("submit", "hello")).done()).out.strip()
    assert completed(tmp_path, replicas[0], "watch job_") == [job_id]
    assert completed(tmp_path, replicas[0], f"cancel {job_id}x") == []
    assert completed(tmp_path, replicas[0], "workers drain w") == ["worker-1"]


def test_without_a_server_nothing_is_completed(tmp_path: Path) -> None:
    assert completed(tmp_path, None, "watch ") == []


def completed(home: Path, replica: Replica | None, words: str) -> list[str]:
    """What bash proposes for the last word, with the script from `--show-completion`."""
    port = replica.url.rpartition(":")[2] if replica else "1"
    number = len(words.split(" "))
    script = f"""
        {sys.executable} -m cli.main --show-completion > {home}/completion; source {home}/completion
        COMP_WORDS=(baton {words}); COMP_CWORD={number}; [ "${{words: -1}}" = " " ] && COMP_WORDS+=("")
        _baton_completion baton; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    launcher = home / "baton"
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -m cli.main "$@"\n')
    launcher.chmod(0o755)
    shown = subprocess.run(
        ["bash", "-c", script],
        env={
            "PATH": f"{home}:{os.environ['PATH']}",
            "BATON_HOME": str(home / "none"),
            "BATON_PORT": port,
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        },
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert shown.stderr == ""
    return shown.stdout.split()
