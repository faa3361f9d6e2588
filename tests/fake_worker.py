"""FakeWorker: a worker without an engine. It claims jobs through the real store and releases scripted output."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType

import msgspec

from shared.domain.events import Completed, Failed, Incomplete, Output
from shared.domain.job import Job
from shared.domain.lease import Lease
from shared.domain.output import ChoiceOutput, Finish, Op, TokenLogprobs
from shared.domain.prompt_logprobs import PromptLogprobs
from shared.domain.result import Result
from shared.domain.usage import Usage
from shared.errors import ErrorInfo, StoreUnavailable
from shared.store.append import Append, AppendAnswer
from shared.store.job_store import JobStore
from workers.runtime.transcript import Transcript

#: The default output of a `FakeWorker`.
ANSWER = ("Hel", "lo", ",", " wor", "ld", "!")
PROMPT_TOKENS = 7
_POLL_S = 0.002
_BEAT_S = 0.2


class Running:
    """A claimed job that a test controls. Each unit counts as a token."""

    def __init__(self, store: JobStore, job: Job, before: Sequence[ChoiceOutput] = ()) -> None:
        """`before`: the output that other workers have released."""
        self.job = job
        self.end = list(job.end)
        #: Tokens used, as the next entry reports them.
        self.used = job.used
        self._store = store
        #: The released output of each choice. Each entry begins with the head that follows from it.
        self._said: list[ChoiceOutput | None] = [None] * job.n
        for output in before:
            self._said[output.index] = output

    async def say(
        self,
        *texts: str,
        choice: int = 0,
        finish: Finish | str | None = None,
        start: int | None = None,
        ops: Sequence[Op] = (),
        logprobs: Sequence[TokenLogprobs] | None = None,
        prompt_logprobs: PromptLogprobs | None = None,
    ) -> AppendAnswer:
        """Release one unit a text, and one more that does `ops`, in one event."""
        units = (*texts, "") if ops else texts
        marks = {len(texts): tuple(ops)} if ops else None
        begin = self.end[choice] if start is None else start
        said = ChoiceOutput(
            choice,
            begin,
            tuple(range(begin, begin + len(units))),
            units,
            Finish(finish) if isinstance(finish, str) else finish,
            None if logprobs is None else tuple(logprobs),
            marks=marks,
            prompt_logprobs=prompt_logprobs,
        )
        return await self._release((said,))

    async def say_all(self, *texts: str) -> AppendAnswer:
        """The same text in every choice, in one event, as an engine's step does."""
        return await self._release(
            [
                ChoiceOutput(index, end, tuple(range(end, end + len(texts))), texts)
                for index, end in enumerate(self.end)
            ]
        )

    async def complete(self, finish: Finish | str = "stop") -> AppendAnswer:
        """Finish every choice that has not finished, then the job, with its result stored."""
        why = Finish(finish) if isinstance(finish, str) else finish
        ends = [
            ChoiceOutput(index, end, (), (), why)
            for index, end in enumerate(self.end)
            if (said := self._said[index]) is None or said.finish is None
        ]
        before, output = tuple(self.end), self._take(ends) if ends else None
        await self._keep_result()
        return await self._append(before, output, Incomplete() if why.reason == "length" else Completed())

    async def _keep_result(self) -> None:
        assert self.job.claim_token is not None
        result = Result.empty(self.job.n)
        result.take(said for said in self._said if said is not None)
        result.used = self.used
        await self._store.keep_result(self.job.id, self.job.claim_token, result.encode())

    async def fail(self, error: ErrorInfo) -> AppendAnswer:
        """End the job with an error."""
        return await self._append(tuple(self.end), None, Failed(error))

    async def check(self) -> AppendAnswer:
        """Ask whether the job is still this worker's."""
        return await self._append(tuple(self.end), None, None)

    async def _release(self, choices: Sequence[ChoiceOutput]) -> AppendAnswer:
        before = tuple(self.end)
        return await self._append(before, self._take(choices), None)

    def _take(self, choices: Sequence[ChoiceOutput]) -> Output:
        """The event, with the head that each choice has there."""
        said = [self._with_head(choice) for choice in choices]
        prompt, completion, cached, reasoning = self.used
        self.used = Usage(
            prompt or PROMPT_TOKENS, completion + sum(len(one.texts) for one in said), cached, reasoning
        )
        for one in said:
            before = self._said[one.index]
            if one.start == self.end[one.index]:
                self._said[one.index] = one if before is None else before.joined(one)
            self.end[one.index] = max(self.end[one.index], one.end)
        return Output(tuple(said))

    def _with_head(self, output: ChoiceOutput) -> ChoiceOutput:
        said = self._said[output.index]
        if said is None or output.start < said.start:
            return output
        return msgspec.structs.replace(output, head=said.since(output.start).head)

    async def _append(
        self, start: tuple[int, ...], output: Output | None, terminal: Completed | Incomplete | Failed | None
    ) -> AppendAnswer:
        assert self.job.claim_token is not None
        append = Append(
            self.job.id,
            self.job.claim_token,
            start,
            tuple(self.end),
            self.used,
            output=output,
            terminal=terminal,
        )
        return (await self._store.append([append]))[0]


Script = Callable[[Running], Awaitable[None]]


async def hello(running: Running) -> None:
    """The default script: ANSWER, a token an event, in every choice."""
    for text in ANSWER:
        await running.say_all(text)
    await running.complete()


def says(texts: Sequence[str], *, finish: Finish | str = "stop", gap_s: float = 0) -> Script:
    """A script that says other texts, one an event, with a pause between them."""

    async def script(running: Running) -> None:
        for text in texts:
            await running.say_all(text)
            await asyncio.sleep(gap_s)
        await running.complete(finish)

    return script


class FakeWorker:
    """Claims every job of its model. It plays a script for each job, or `claimed` returns the jobs to the test."""

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
        """Return the next claimed job. Waits up to ten seconds."""
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
            # Repeated, because a call to Redis may lose a cancellation (shared/store/redis_client.py).
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
            entries = await self._store.entries(job.id) if job.attempts > 1 else []
            running = Running(self._store, job, Transcript.of(entries, job.n).so_far())
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
