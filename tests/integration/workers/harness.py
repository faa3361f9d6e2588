"""Harness: a Worker in the test's event loop, with a scripted engine. The test takes Celery's place."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from redis.asyncio import Redis

from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.constraint import Constraint
from shared.domain.events import Entry, Event, Output
from shared.domain.job import Job, NewJob, Priority, new_job_id
from shared.domain.lease import Lease
from shared.domain.output import Head
from shared.domain.request import ChatMessage, ChatPrompt, GenerationRequest, SamplingOptions
from shared.domain.result import Result
from shared.store import keys
from shared.store.job_store import JobStore
from tests.scripted_backend import ScriptedEngine, scripted_resolve
from workers.backends.backend import Backend
from workers.backends.local import LocalBackend
from workers.celery_app.pending_task import Delivery, PendingTask
from workers.runtime.assembly import make_worker
from workers.runtime.claimer import Claimer
from workers.runtime.transcript import Transcript
from workers.runtime.worker import Worker

MODEL = "scripted"
WAIT_S = 10.0


async def eventually(condition: Callable[[], Awaitable[bool]], within_s: float = WAIT_S) -> None:
    """Return as soon as the condition holds. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not await condition():
            await asyncio.sleep(0.005)


class Jobs:
    """Makes jobs for the scripted model, and looks at them."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    async def create(
        self,
        length: int = 5,
        *,
        seed: int = 1,
        n: int = 1,
        content: str | None = None,
        priority: Priority = "normal",
        constraint: Constraint | None = None,
        **sampling: Any,
    ) -> str:
        """A job whose answer is `length` tokens long."""
        message = ChatMessage("user", f"count to {length}" if content is None else content)
        options = SamplingOptions(seed=seed, **sampling)
        request = GenerationRequest((ChatPrompt((message,)),), n, options, constraint)
        return await self.create_request(request, priority=priority)

    async def create_request(self, request: GenerationRequest, *, priority: Priority = "normal") -> str:
        job = NewJob(new_job_id(), MODEL, "owner", request, priority=priority)
        await self._store.create(job)
        await asyncio.sleep(0.002)  # places in the queue go by milliseconds
        return job.id

    async def get(self, job_id: str) -> Job:
        job = await self._store.get(job_id)
        assert job is not None
        return job

    async def ended(self, job_id: str, within_s: float = WAIT_S) -> Job:
        """The job, once it is over."""

        async def is_over() -> bool:
            return (await self.get(job_id)).is_terminal

        await eventually(is_over, within_s)
        return await self.get(job_id)

    async def reached(self, job_id: str, position: int) -> None:
        """Return once the job has released as many tokens."""

        async def has() -> bool:
            return sum((await self.get(job_id)).end) >= position

        await eventually(has)

    async def entries(self, job_id: str) -> list[Entry]:
        return await self._store.entries(job_id)

    async def life(self, job_id: str) -> list[Event]:
        """The job's events but its outputs."""
        return [e.event for e in await self.entries(job_id) if not isinstance(e.event, Output)]

    async def texts(self, job_id: str) -> list[str]:
        """Text per choice. Fails when a token is missing, or there twice."""
        entries = await self.entries(job_id)
        return [choice.text for choice in Transcript.of(entries, len(entries[0].end)).so_far()]

    async def result(self, job_id: str) -> Result:
        """What the worker stored at the job's end."""
        found = await self._store.get_with_result(job_id)
        assert found is not None and found[1] is not None
        return found[1]

    async def read_again(self, job_id: str) -> Result:
        """The same from the stream's entries. Fails when one does not begin in the state that those before leave."""
        entries = await self.entries(job_id)
        heads, read = [Head() for _ in entries[0].end], Result.empty(len(entries[0].end))
        for entry in entries:
            read.used = entry.used
            for choice in entry.event.choices if isinstance(entry.event, Output) else ():
                assert choice.head == heads[choice.index]
                heads[choice.index] = choice.head_after
                read.take([choice])
        return read


#: As an older append-only file has it: the last third is not there, and the last id is that of what is.
_LOSE_TAIL = """
local entries = redis.call('XRANGE', KEYS[1], '-', '+')
local kept = math.ceil(#entries * 2 / 3)
for i = kept + 1, #entries do redis.call('XDEL', KEYS[1], entries[i][1]) end
redis.call('XSETID', KEYS[1], entries[kept][1])
"""


async def lose_tail(redis: Redis, job_id: str) -> None:
    """Restart Redis with an older file."""
    await redis.eval(_LOSE_TAIL, 1, keys.events(job_id))


async def reap(store: JobStore) -> None:
    """Take the jobs of the only worker away, as reapers do once it was killed."""
    (worker,) = await store.workers()
    await store.release(worker.worker_instance, "worker_died", died=True)


class CelerySide:
    """Delivers wake-ups as the pool does, and records what it reports to Celery."""

    def __init__(self) -> None:
        self._pids = itertools.count(1)
        self.reports: dict[int, list[Any]] = {}

    def wake_up(self, job_id: str, worker: Worker | Claimer) -> PendingTask:
        pid = next(self._pids)
        reports = self.reports[pid] = []
        wake_up = PendingTask(
            pid=pid, job_id=job_id, post=_call, forget=lambda: None, on_terminate=lambda _: None
        )  # fmt: skip
        wake_up.deliver(
            Delivery(lambda *_: reports.append("accepted"), lambda outcome: reports.append(_plain(outcome)))
        )
        worker.hold(wake_up)
        return wake_up


def _call(call: Callable[..., object], *args: Any) -> None:
    call(*args)


def _plain(outcome: tuple[int, Any, float]) -> str:
    status, result, _runtime = outcome
    return f"failed: {result.exception}" if status else str(result)


class Harness:
    """One running worker."""

    def __init__(
        self,
        store: JobStore,
        sender: WakeUpSender,
        *,
        name: str = "w1",
        slots: int = 4,
        step_s: float = 0.002,
        backend: Backend | None = None,
        kind: type[ScriptedEngine] = ScriptedEngine,
        finish_s: float = 0.0,
    ) -> None:
        self.engine = kind(slots=slots, step_s=step_s)
        self.backend: Backend = backend or LocalBackend(
            self.engine, scripted_resolve, model_revision="scripted-1", is_exact=True
        )
        lease = Lease("", name, MODEL, "host", 1, "cpu", slots, self.backend.model_revision)
        #: Set when the store asked the worker to leave.
        self.is_told_to_drain = asyncio.Event()
        self.worker = make_worker(
            store,
            sender,
            lease,
            self.backend,
            lease_s=3,
            on_death=_fail,
            on_drain=self.is_told_to_drain.set,
            finish_s=finish_s,
        )
        self.celery = CelerySide()
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Harness:
        self._running = asyncio.create_task(self.worker.run())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._running is not None
        if not self._running.done():
            await self.worker.drain()
        await self._running

    def send(self, job_id: str) -> PendingTask:
        return self.celery.wake_up(job_id, self.worker)

    async def reports(self, wake_up: PendingTask, num: int = 2) -> list[Any]:
        """Wait for `num` reports to Celery about a wake-up, and return them."""

        async def is_there() -> bool:
            return len(self.celery.reports[wake_up.pid]) >= num

        await eventually(is_there)
        return self.celery.reports[wake_up.pid]


def _fail(error: BaseException) -> NoReturn:
    raise AssertionError("the worker died") from error
