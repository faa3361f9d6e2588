"""`baton chat` at a terminal: the session, its commands, Ctrl-C, history, and a replica that dies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from cli.exit_codes import ExitCode
from shared.domain.events import Completed
from shared.store.job_store import JobStore
from tests.integration.cli.clients import MODEL, Replica, ScriptedWorker, messages_of
from tests.integration.cli.terminal import CTRL_C, CTRL_D, ENTER, PROMPT, UP, Terminal

Sit = Callable[..., Awaitable[Terminal]]


@pytest.fixture
async def sit(tmp_path: Path, replicas: tuple[Replica, Replica]) -> AsyncIterator[Sit]:
    """`await sit(…)` starts `baton chat …` and waits for its prompt."""
    terminals: list[Terminal] = []

    async def start(*arguments: str) -> Terminal:
        urls = [part for replica in replicas for part in ("--url", replica.url)]
        terminals.append(await Terminal.start(tmp_path, "chat", *urls, *arguments))
        await terminals[-1].expect(f"{MODEL}. ")
        await terminals[-1].expect(PROMPT)
        return terminals[-1]

    yield start
    for terminal in terminals:
        await terminal.end()


async def test_a_session_remembers_what_was_said_and_set(
    sit: Sit, worker: ScriptedWorker, tmp_path: Path
) -> None:
    terminal = await sit("--temperature", "0.5", "--system", "be brief")
    terminal.type("hello" + ENTER)
    job = await worker.take()
    assert messages_of(job)[0] == {"role": "system", "content": "be brief"}
    assert job.request.sampling.temperature == 0.5
    await worker.write("Hi", " there", end=Completed())
    await terminal.expect("Hi there")
    await terminal.expect(PROMPT)
    for line in ("/set temperature 0.2", "/set top_p 0.9", "/system"):
        terminal.type(line + ENTER)
        await terminal.expect(PROMPT)
    terminal.type("again" + ENTER)
    job = await worker.take()
    assert [message["content"] for message in messages_of(job)] == ["hello", "Hi there", "again"]
    assert (job.request.sampling.temperature, job.request.sampling.top_p) == (0.2, 0.9)
    await worker.write("Yes", end=Completed())
    await terminal.expect("Yes")
    await terminal.expect(PROMPT)
    file = tmp_path / "saved.json"
    terminal.type(f"/save {file}" + ENTER)
    await terminal.expect("saved as")
    saved = json.loads(file.read_text())
    assert [message["content"] for message in saved["messages"]] == ["hello", "Hi there", "again", "Yes"]
    terminal.type("/exit" + ENTER)
    assert await terminal.exit_status() == ExitCode.OK


async def test_ctrl_c_stops_the_answer_and_a_second_one_leaves(
    sit: Sit, worker: ScriptedWorker, store: JobStore
) -> None:
    terminal = await sit()
    terminal.type("count" + ENTER)
    job = await worker.take()
    await worker.write("One")
    await terminal.expect("One")
    terminal.type(CTRL_C)
    await terminal.expect("press Ctrl-C again to exit")
    await terminal.expect(PROMPT)
    found = await store.get(job.id)
    assert found is not None and (found.status, found.reason) == ("cancelled", "client")
    # The session continues, and keeps the part of the answer that had arrived.
    terminal.type("go on" + ENTER)
    job = await worker.take()
    assert [message["content"] for message in messages_of(job)] == ["count", "One", "go on"]
    await worker.write("Two", end=Completed())
    await terminal.expect("Two")
    await terminal.expect(PROMPT)
    terminal.type(CTRL_C)
    await terminal.expect("press Ctrl-C again to exit")
    await terminal.expect(PROMPT)
    terminal.type(CTRL_C)
    assert await terminal.exit_status() == ExitCode.INTERRUPTED


async def test_lines_and_the_conversation_outlive_the_session(sit: Sit, worker: ScriptedWorker) -> None:
    terminal = await sit()
    terminal.type("first question" + ENTER)
    await worker.take()
    await worker.write("One", end=Completed())
    await terminal.expect("One")
    await terminal.expect(PROMPT)
    terminal.type(CTRL_D)
    assert await terminal.exit_status() == ExitCode.OK
    terminal = await sit("--continue")
    terminal.type(UP)
    await terminal.expect("first question")
    terminal.type(ENTER)
    job = await worker.take()
    assert [m["content"] for m in messages_of(job)] == ["first question", "One", "first question"]
    await worker.write("Two", end=Completed())
    await terminal.expect("Two")


async def test_an_answer_goes_on_at_another_replica(
    sit: Sit, worker: ScriptedWorker, replicas: tuple[Replica, Replica]
) -> None:
    terminal = await sit()
    terminal.type("count" + ENTER)
    await worker.take()
    await worker.write("One")
    await terminal.expect("One")
    replicas[0].kill()
    await worker.write(", two", end=Completed())
    await terminal.expect(", two")
    await terminal.expect(PROMPT)
    terminal.type("more" + ENTER)
    job = await worker.take()
    assert [message["content"] for message in messages_of(job)] == ["count", "One, two", "more"]
    await worker.write("Three", end=Completed())
    await terminal.expect("Three")
    replicas[0].start()
    replicas[0].wait_up()


async def test_what_a_model_says_does_not_move_the_cursor(sit: Sit, worker: ScriptedWorker) -> None:
    terminal = await sit()
    terminal.type("hello" + ENTER)
    await worker.take()
    await worker.write("a\x1b[2Jb", end=Completed())
    await terminal.expect("a�[2Jb")
