"""FakeWorker: a worker without an engine. It claims through the real store and says what a test tells it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType

from shared.domain.events import ChoiceOutput, Completed, Failed, FinishReason, Incomplete, Output
from shared.domain.job import Job
from shared.domain.lease import Lease
from shared.domain.prompt_logprobs import PromptLogprobs
from shared.errors import ErrorInfo, StoreUnavailable
from shared.store.append import Append, AppendAnswer
from shared.store.job_store import JobStore

#: What a `FakeWorker` says when a test does not tell it otherwise.
ANSWER = ("Hel", "lo", ",", " wor", "ld", "!")
PROMPT_TOKENS = 7
_POLL_S = 0.002
_BEAT_S = 0.2


class Running:
    """A claimed job, in the hands of a test."""

    def __init__(self, store: JobStore, worker_instance: str, job: Job) -> None:
        self.job = job
        self.end = list(job.end)
        self._store = store
        self._new_instance = worker_instance
        self._finish: list[FinishReason | None] = [None] * job.n

    async def say(
        self,
        *texts: str,
        choice: int = 0,
        finish: FinishReason | None = None,
        start: int | None = None,
        prompt_logprobs: PromptLogprobs | None = None,
    ) -> AppendAnswer:
        """Release one token a text, in one event."""
        begin = self.end[choice] if start is None else start
        ids = tuple(range(begin, begin + len(texts)))
        before = tuple(self.end)
        self.end[choice] = max(self.end[choice], begin + len(texts))
        self._finish[choice] = finish
        told = ChoiceOutput(choice, begin, ids, texts, finish, prompt_logprobs=prompt_logprobs)
        output = Output((told,))
        return await self._append(before, output, None)

    async def say_all(self, *texts: str) -> AppendAnswer:
        """The same text in every choice, in one event, as an engine's step does."""
        before = tuple(self.end)
        choices = tuple(
            ChoiceOutput(index, end, tuple(range(end, end + len(texts))), texts)
            for index, end in enumerate(self.end)
        )
        self.end = [end + len(texts) for end in self.end]
        return await self._append(before, Output(choices), None)

    async def complete(self, finish: FinishReason = "stop") -> AppendAnswer:
        """Finish every choice that has not finished, then the job."""
        choices = tuple(
            ChoiceOutput(index, end, (), (), finish)
            for index, end in enumerate(self.end)
            if self._finish[index] is None
        )
        end = Incomplete(PROMPT_TOKENS) if finish == "length" else Completed(PROMPT_TOKENS)
        return await self._append(tuple(self.end), Output(choices) if choices else None, end)

    async def fail(self, error: ErrorInfo) -> AppendAnswer:
        """End the job with an error."""
        return await self._append(tuple(self.end), None, Failed(error, PROMPT_TOKENS))

    async def check(self) -> AppendAnswer:
        """Ask whether the job is still this worker's."""
        return await self._append(tuple(self.end), None, None)

    async def _append(
        self, start: tuple[int, ...], output: Output | None, terminal: Completed | Incomplete | Failed | None
    ) -> AppendAnswer:
        assert self.job.claim_token is not None
        append = Append(
            self.job.id, self.job.claim_token, start, tuple(self.end), output=output, terminal=terminal
        )
        return (await self._store.append(self._new_instance, [append]))[0]


Script = Callable[[Running], Awaitable[None]]


async def hello(running: Running) -> None:
    """The default script: ANSWER, a token an event, in every choice."""
    for text in ANSWER:
        await running.say_all(text)
    await running.complete()


def says(texts: Sequence[str], *, finish: FinishReason = "stop", gap_s: float = 0) -> Script:
    """A script that says other texts, one an event, with a pause between them."""

    async def script(running: Running) -> None:
        for text in texts:
            await running.say_all(text)
            await asyncio.sleep(gap_s)
        await running.complete(finish)

    return script


class FakeWorker:
    """Claims every job of its model. With a script it plays it; without, `claimed` hands them to the test."""

    def __init__(
        self, store: JobStore, script: Script | None = None, *, model: str = "test", name: str = "fake-0"
    ) -> None:
        self.name = name
        self.worker_instance = f"{name}-{secrets.token_hex(4)}"
        self.num_claims = 0
        self._store = store
        self._script = script
        self._lease = Lease(
            self.worker_instance, name, model, "host", 1, "cpu", 64, "revision", is_exact=True
        )
        self._claimed: asyncio.Queue[Running] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: dict[str, str] = {}

    async def claimed(self) -> Running:
        """The next job that was claimed; waits at most ten seconds."""
        async with asyncio.timeout(10):
            return await self._claimed.get()

    async def __aenter__(self) -> FakeWorker:
        await self._store.register(self._lease)
        self._spawn(self._claim_all())
        self._spawn(self._beat())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._tasks:
            # Until they ended: a call of Redis may swallow a cancellation (shared/store/redis_client.py).
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=0.1)
        with suppress(StoreUnavailable):
            await self._store.release(self.worker_instance, "drain", died=False)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _claim_all(self) -> None:
        while True:
            claim_token = secrets.token_hex(8)
            try:
                job = await self._store.claim(self._lease, claim_token)
            except StoreUnavailable:
                job = "empty"
            if isinstance(job, str):
                await asyncio.sleep(_POLL_S)
                continue
            self.num_claims += 1
            self._held[job.id] = claim_token
            running = Running(self._store, self.worker_instance, job)
            if self._script is None:
                self._claimed.put_nowait(running)
            else:
                self._spawn(self._play(self._script, running))

    async def _play(self, script: Script, running: Running) -> None:
        await script(running)
        self._held.pop(running.job.id)

    async def _beat(self) -> None:
        stats = {"tokens": 10, "batch_max": 3}
        while True:
            with suppress(StoreUnavailable):
                await self._store.beat(
                    self.worker_instance, steps=1, wake_ups=0, running=dict(self._held), stats=stats
                )
            await asyncio.sleep(_BEAT_S)
