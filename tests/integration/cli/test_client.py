"""The client commands against two real API replicas, with a worker that writes what the test tells it to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.exit_codes import ExitCode
from shared.append import Append
from shared.errors import ErrorInfo
from shared.events import ChoiceOutput, Completed, Failed, Output
from shared.job import Job, ResolvedRequest
from shared.job_store import JobStore
from shared.lease import Lease
from shared.sampling import SamplingParams
from tests.integration.cli.free_port import free_port
from tests.redis_server import RedisServer

WAIT_S = 20.0
MODEL = "scripted"
RESOLVED = ResolvedRequest((5, 6), SamplingParams(8, 1), (0,), "rev")


class Replica:
    """One API process."""

    def __init__(self, redis_url: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._environ = {
            "PATH": os.environ["PATH"],
            "BATON_REDIS_URL": redis_url,
            "BATON_PORT": str(port),
            "BATON_MODEL_NAME": MODEL,
            "BATON_LEASE_S": "60",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "api.entry"], env=self._environ)

    def wait_up(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                httpx.get(f"{self.url}/health/live", trust_env=False)
                return
            except httpx.TransportError:
                assert time.monotonic() < deadline, "the API does not start"
                time.sleep(0.05)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def replicas(redis_server: RedisServer) -> Iterator[tuple[Replica, Replica]]:
    pair = (Replica(redis_server.url), Replica(redis_server.url))
    for replica in pair:
        replica.wait_up()
    yield pair
    for replica in pair:
        replica.kill()


class ScriptedWorker:
    """Takes one job after the other and writes what it is told to."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._lease = Lease("w.1", "worker-1", MODEL, socket.gethostname(), 1, "cpu", 4, "rev")
        self._job: Job | None = None
        self._num_tokens = 0

    async def register(self) -> None:
        await self._store.register(self._lease)

    async def take(self) -> Job:
        async with asyncio.timeout(WAIT_S):
            while not isinstance(job := await self._store.claim(self._lease, "word"), Job):
                await asyncio.sleep(0.02)
        self._job, self._num_tokens = job, 0
        return job

    async def write(self, *texts: str, end: Completed | Failed | None = None) -> None:
        assert self._job is not None
        start, self._num_tokens = self._num_tokens, self._num_tokens + len(texts)
        choice = ChoiceOutput(0, start, tuple(range(len(texts))), texts, "stop" if end else None)
        append = Append(
            self._job.id,
            "word",
            (start,),
            (self._num_tokens,),
            output=Output((choice,)) if texts else None,
            resolved=RESOLVED,
            terminal=end,
        )
        (answer,) = await self._store.append(self._lease.incarnation, [append])
        assert answer.kind in ("end", "closed")


@pytest.fixture
async def worker(store: JobStore) -> ScriptedWorker:
    worker = ScriptedWorker(store)
    await worker.register()
    return worker


@dataclass
class Done:
    """What a command left."""

    code: int
    out: str
    err: str


class Command:
    """A running `baton …`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, home: Path, *arguments: str) -> Command:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.main", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            env={"PATH": os.environ["PATH"], "BATON_HOME": str(home)},
        )
        return cls(process)

    async def read(self, text: str) -> None:
        """Wait until exactly this was printed."""
        assert self._process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            assert (await self._process.stdout.readexactly(len(text))).decode() == text

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    async def done(self) -> Done:
        async with asyncio.timeout(WAIT_S):
            out, err = await self._process.communicate()
        return Done(self._process.returncode or 0, out.decode(), err.decode())


@pytest.fixture
async def baton(tmp_path: Path, replicas: tuple[Replica, Replica]) -> AsyncIterator[Any]:
    """`await baton("jobs", …)` starts a command that knows both replicas."""

    async def start(*arguments: str) -> Command:
        urls = [part for replica in replicas for part in ("--url", replica.url)]
        return await Command.start(tmp_path, *arguments, *urls)

    yield start


async def test_a_chat_goes_on_at_another_replica(
    baton: Any, worker: ScriptedWorker, replicas: tuple[Replica, Replica]
) -> None:
    command = await baton("chat", "hello")
    job = await worker.take()
    assert job.body["messages"] == [{"role": "user", "content": "hello"}]
    await worker.write("One", ", two")
    await command.read("One, two")
    replicas[0].kill()
    await worker.write(", thr", "ee.", end=Completed(2))
    assert await command.done() == Done(0, ", three.\n", "")
    replicas[0].start()
    replicas[0].wait_up()


async def test_ctrl_c_cancels_the_answer(baton: Any, worker: ScriptedWorker, store: JobStore) -> None:
    command = await baton("chat", "hello")
    job = await worker.take()
    await worker.write("One")
    await command.read("One")
    command.interrupt()
    done = await command.done()
    assert (done.code, done.out) == (ExitCode.INTERRUPTED, "\n")
    found = await store.get(job.id)
    assert found is not None and (found.status, found.reason) == ("cancelled", "client")


async def test_a_failed_chat_tells_why(baton: Any, worker: ScriptedWorker) -> None:
    command = await baton("chat", "hello")
    await worker.take()
    await worker.write("One")
    await command.read("One")
    await worker.write(end=Failed(ErrorInfo("out of luck")))
    assert await command.done() == Done(ExitCode.FAILED, "\n", "baton: out of luck\n")


async def test_submit_watch_jobs_cancel(baton: Any, worker: ScriptedWorker) -> None:
    submitted = await (await baton("submit", "hello", "--max-tokens", "5", "--priority", "high")).done()
    job_id = submitted.out.strip()
    watching = await baton("watch", job_id)
    job = await worker.take()
    assert (job.id, job.priority, job.body["max_tokens"]) == (job_id, "high", 5)
    await worker.write("a", "b")
    await watching.read("ab")
    await worker.write("c", end=Completed(2))
    watched = await watching.done()
    assert (watched.code, watched.out) == (ExitCode.OK, "c\n")
    assert watched.err == "[queued]\n[started by worker-1]\n[completed - 3 tokens]\n"

    events = (await (await baton("watch", job_id, "--json")).done()).out.splitlines()
    names = dict.fromkeys(json.loads(line)["event"] for line in events)  # output may come in several
    assert list(names) == ["job.queued", "job.started", "job.output", "job.completed"]
    listed = json.loads((await (await baton("jobs", "--json", "--status", "completed")).done()).out)
    assert [(item["id"], item["worker"]) for item in listed] == [(job_id, "worker-1")]
    assert (await (await baton("cancel", job_id)).done()).out == f"{job_id} completed\n"


async def test_submit_and_wait_tells_by_its_exit_code(baton: Any, worker: ScriptedWorker) -> None:
    command = await baton("submit", "hello", "--wait")
    job = await worker.take()
    await (await baton("cancel", job.id)).done()
    done = await command.done()
    assert (done.code, done.out) == (ExitCode.FAILED, "")
    assert "[cancelled (client) - 0 tokens]" in done.err


async def test_what_is_not_there(baton: Any, worker: ScriptedWorker) -> None:
    del worker
    for arguments in (["watch", "job_" + "x" * 24], ["cancel", "job_" + "x" * 24], ["chat", "a", "-m", "no"]):
        done = await (await baton(*arguments)).done()
        assert (done.code, done.err.count("\n"), done.err[:7]) == (ExitCode.NOT_FOUND, 1, "baton: ")


async def test_workers_are_read_from_redis(
    tmp_path: Path, worker: ScriptedWorker, redis_server: RedisServer
) -> None:
    del worker
    found = await (await Command.start(tmp_path, "workers", "--json", "--redis-url", redis_server.url)).done()
    assert [item["name"] for item in json.loads(found.out)] == ["worker-1"]
    parts = await (await Command.start(tmp_path, "ps", "--json", "--redis-url", redis_server.url)).done()
    assert json.loads(parts.out) == [
        {
            "role": "worker",
            "id": f"worker-1@{socket.gethostname()}",
            "pid": 1,
            "url": None,
            "device": "cpu",
            "state": "ready",
        }
    ]
