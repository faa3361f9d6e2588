"""Helpers for tests of the client commands: API replicas, a scripted worker, and commands."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from shared.domain.events import Completed, Failed, Output
from shared.domain.job import Job
from shared.domain.lease import Lease
from shared.domain.output import ChoiceOutput, Finish
from shared.domain.request import ChatPrompt
from shared.domain.usage import Usage
from shared.store.append import Append
from shared.store.job_store import JobStore
from tests.api_process import ApiProcess

WAIT_S = 20.0
MODEL = "scripted"
PROMPT_TOKENS = 2


def messages_of(job: Job) -> list[dict[str, str]]:
    """The conversation that a command sent."""
    (prompt,) = job.request.prompts
    assert isinstance(prompt, ChatPrompt)
    return [{"role": message.role, "content": message.content} for message in prompt.messages]


class Replica(ApiProcess):
    """One API process. It is started at once."""

    def __init__(self, redis_url: str) -> None:
        super().__init__(redis_url, MODEL)
        self.start()


class ScriptedWorker:
    """A worker that takes one job after another and writes scripted output."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        # A new name in each test: the worker sends no heartbeat, and a replica that outlives a test remembers it.
        self.worker_instance = f"w.{secrets.token_hex(4)}"
        self._lease = Lease(self.worker_instance, "worker-1", MODEL, socket.gethostname(), 1, "cpu", 4, "rev")
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
        choice = ChoiceOutput(0, start, tuple(range(len(texts))), texts, Finish("stop") if end else None)
        append = Append(
            self._job.id,
            "word",
            (start,),
            (self._num_tokens,),
            Usage(PROMPT_TOKENS, self._num_tokens),
            output=Output((choice,)) if texts else None,
            terminal=end,
        )
        (answer,) = await self._store.append([append])
        assert answer.kind in ("end", "closed")


@dataclass
class Done:
    """The result of a command."""

    code: int
    out: str
    err: str


class Command:
    """A running `baton …`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, home: Path, *arguments: str, given: str | bytes = b"") -> Command:
        """`given` is its standard input."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.main", *arguments),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env={"PATH": os.environ["PATH"], "BATON_HOME": str(home)},
        )
        assert process.stdin is not None
        process.stdin.write(given.encode() if isinstance(given, str) else given)
        process.stdin.close()
        return cls(process)

    async def read(self, text: str) -> None:
        """Waits until exactly this text was printed."""
        assert self._process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            assert (await self._process.stdout.readexactly(len(text))).decode() == text

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    async def done(self) -> Done:
        async with asyncio.timeout(WAIT_S):
            out, err = await self._process.communicate()
        return Done(self._process.returncode or 0, out.decode(), err.decode())
