"""The client commands against two real API replicas, with a scripted worker."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from cli.exit_codes import ExitCode
from shared.domain.events import Completed, Failed
from shared.errors import ErrorInfo
from shared.store.job_store import JobStore
from tests.integration.cli.clients import Command, Done, Replica, ScriptedWorker, messages_of
from tests.redis_server import RedisServer


async def test_a_chat_goes_on_at_another_replica(
    baton: Any, worker: ScriptedWorker, replicas: tuple[Replica, Replica]
) -> None:
    command = await baton("chat", "hello")
    job = await worker.take()
    assert messages_of(job) == [{"role": "user", "content": "hello"}]
    await worker.write("One", ", two")
    await command.read("One, two")
    replicas[0].kill()
    await worker.write(", thr", "ee.", end=Completed())
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
    assert (job.id, job.priority, job.request.sampling.max_tokens) == (job_id, "high", 5)
    await worker.write("a", "b")
    await watching.read("ab")
    await worker.write("c", end=Completed())
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


async def test_ps_lists_workers_of_other_machines(
    tmp_path: Path, worker: ScriptedWorker, redis_server: RedisServer
) -> None:
    del worker
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
