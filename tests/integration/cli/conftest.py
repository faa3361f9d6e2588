"""Two real API replicas, a scripted worker, and the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.store.job_store import JobStore
from tests.integration.cli.clients import Command, Replica, ScriptedWorker
from tests.redis_server import RedisServer


@pytest.fixture(scope="module")
def replicas(redis_server: RedisServer) -> Iterator[tuple[Replica, Replica]]:
    pair = (Replica(redis_server.url), Replica(redis_server.url))
    for replica in pair:
        replica.wait_up()
    yield pair
    for replica in pair:
        replica.kill()


@pytest.fixture
async def worker(store: JobStore) -> ScriptedWorker:
    worker = ScriptedWorker(store)
    await worker.register()
    return worker


@pytest.fixture
def baton(tmp_path: Path, replicas: tuple[Replica, Replica]) -> Any:
    """`await baton("jobs", …)` starts a command that knows both replicas."""

    async def start(*arguments: str, given: str | bytes = b"") -> Command:
        urls = [part for replica in replicas for part in ("--url", replica.url)]
        return await Command.start(tmp_path, *arguments, *urls, given=given)

    return start
