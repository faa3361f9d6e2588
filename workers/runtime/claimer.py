"""Claimer: claims jobs when slots are free, and gives them to the backend."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable
from typing import Literal, TypeVar, assert_never

from shared.domain.job import Job
from shared.errors import DecodeError, ErrorInfo, RequestError
from shared.runtime.failpoint import failpoint
from shared.store.append import Resolved
from shared.store.job_store import JobStore
from workers.backends.backend import Backend
from workers.celery_app.pending_task import PendingTask
from workers.runtime.backoff import until_available
from workers.runtime.lease import LeaseKeeper
from workers.runtime.running_job import RunningJob, RunningJobs
from workers.runtime.task_set import TaskSet
from workers.runtime.transcript import Transcript

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Name of the tasks that give a claimed job to the backend.
BEGINNING = "beginning"
#: Delay before the next claim when the reply was `wait`.
_WAIT_S = 0.2
UNREADABLE_JOB = ErrorInfo("The stored data of this job cannot be read.", code="unreadable_job")
UNREADABLE_REQUEST = ErrorInfo("The worker cannot read this request.", code="internal_error")
INTERRUPTED = ErrorInfo(
    "The answer was interrupted, and the service that generates it cannot continue it.",
    code="upstream_interrupted",
    status=502,
)


class Claimer:
    """Claims one job at a time, while it holds a wake-up and a slot is free.

    The next claim does not wait until the last job's stream and request are read.
    """

    def __init__(
        self,
        store: JobStore,
        lease: LeaseKeeper,
        jobs: RunningJobs,
        backend: Backend,
        task_set: TaskSet,
    ) -> None:
        self._store = store
        self._lease = lease
        self._jobs = jobs
        self._backend = backend
        self._task_set = task_set
        self._wake_ups: list[PendingTask] = []
        self._turn = asyncio.Lock()
        #: Claim tokens of jobs that could not be decoded.
        self.unreadable: set[str] = set()
        self.is_claiming = False
        #: Number of calls to `JobStore.claim`, including those that failed or found no job.
        self.num_asked = 0
        self.num_claims = 0

    @property
    def wake_ups(self) -> list[PendingTask]:
        """The wake-ups that have no job yet."""
        return list(self._wake_ups)

    def hold(self, wake_up: PendingTask) -> None:
        """Take a new wake-up."""
        failpoint("wake_up_received")
        self._wake_ups.append(wake_up)
        self._jobs.may_claim.set()

    def withdraw(self, wake_up: PendingTask) -> bool:
        """Remove a wake-up that has no job yet. Returns False if it is not here."""
        if wake_up not in self._wake_ups:
            return False
        self._wake_ups.remove(wake_up)
        return True

    async def run(self) -> None:
        """Claim jobs until cancelled."""
        while True:
            await self._jobs.may_claim.wait()
            if not self._wake_ups or self._jobs.num_free_slots < 1:
                self._jobs.may_claim.clear()
                continue
            async with self._turn:
                claimed = await self._claim(secrets.token_hex(8))
            if claimed is not None:
                self._task_set.spawn(self._begin(claimed), name=BEGINNING)

    async def claim_instead_of(self, preempted: RunningJob) -> None:
        """Claim a queued job of priority `high`, if there is one, and give it the slot of `preempted`."""
        async with self._turn:
            if self._jobs.get(preempted.claim_token) is not preempted:
                return
            claim_token = secrets.token_hex(8)
            self.is_claiming = True
            try:
                answer = await self._ask(claim_token, instead_of=preempted)
                if isinstance(answer, Job):
                    self._task_set.spawn(
                        self._begin(self._replace(preempted, answer, claim_token)), name=BEGINNING
                    )
            finally:
                self.is_claiming = False
            if answer == "unreadable":
                self.unreadable.add(claim_token)

    def _replace(self, preempted: RunningJob, job: Job, claim_token: str) -> RunningJob:
        """Give the preempted job's wake-up to the new job. The new job's own wake-up is kept for the preempted one."""
        self.num_claims += 1
        wake_up = preempted.wake_up if self._jobs.get(preempted.claim_token) is preempted else None
        preempted.wake_up = None
        self._jobs.drop(preempted, "preempted")
        running = RunningJob(job, claim_token, wake_up)
        self._jobs.add(running)
        return running

    async def _claim(self, claim_token: str) -> RunningJob | None:
        """Claim a job once, and act on the reply. Returns the job, if there was one."""
        lease, wake_ups = self._lease.lease, self.wake_ups
        self.is_claiming = True
        try:
            answer = await self._ask(claim_token)
            if isinstance(answer, Job):
                return self._take(answer, claim_token)
        finally:
            self.is_claiming = False
        match answer:
            case "empty":
                # A wake-up is sent after its job was queued, so the wake-ups from before the claim are obsolete.
                for wake_up in wake_ups:
                    if self.withdraw(wake_up):
                        wake_up.end("nothing queued")
            case "wait":
                await asyncio.sleep(_WAIT_S)
            case "unknown":
                await self._lease.begin_again(lease)
            case "unreadable":
                self.unreadable.add(claim_token)
                await asyncio.sleep(_WAIT_S)
            case _:
                assert_never(answer)
        return None

    async def _ask(
        self, claim_token: str, *, instead_of: RunningJob | None = None
    ) -> Job | Literal["empty", "wait", "unknown", "unreadable"]:
        """Call `claim` until there is a reply. The token stays the same, since any of the calls may have succeeded."""
        low_job = None if instead_of is None else (instead_of.job.id, instead_of.claim_token)

        async def ask() -> Job | Literal["empty", "wait", "unknown"]:
            self.num_asked += 1
            return await self._store.claim(self._lease.lease, claim_token, instead_of=low_job)

        try:
            return await until_available(ask, "claim")
        except DecodeError as error:
            logger.error("a claimed job cannot be read: %s", error)
            return "unreadable"

    def _take(self, job: Job, claim_token: str) -> RunningJob:
        self.num_claims += 1
        # Prefer the wake-up that was sent for this job, because Celery shows its task with the job's id.
        wake_up = next((w for w in self._wake_ups if w.job_id == job.id), next(iter(self._wake_ups), None))
        if wake_up is not None:
            self._wake_ups.remove(wake_up)
            wake_up.accept()
        running = RunningJob(job, claim_token, wake_up)
        self._jobs.add(running)
        failpoint("claimed")
        return running

    async def _begin(self, running: RunningJob) -> None:
        """Give the job to the backend, or end it."""
        job = running.job
        try:
            transcript = await self._read_stream(job) if job.attempts > 1 else Transcript(job.n)
            if not transcript.is_finished:
                await self._make_ready(running, transcript)
        except DecodeError as error:
            logger.error("%s cannot be read: %s", job.id, error)
            await until_available(
                lambda: self._store.fail(job.id, UNREADABLE_JOB), "end of an unreadable job"
            )
            return self._jobs.drop(running, "cannot be read")
        except RequestError as error:
            running.error = error.info
        if self._jobs.get(running.claim_token) is not running:
            return
        running.begin(transcript)
        if running.terminal is None:
            assert running.resolved is not None
            self._backend.add(running.claim_token, running.resolved, transcript.so_far(), owner=job.owner)
        self._jobs.may_publish.set()

    async def _read_stream(self, job: Job) -> Transcript:
        entries = await until_available(lambda: self._store.entries(job.id), "stream")
        return Transcript.of(entries, job.n)

    async def _make_ready(self, running: RunningJob, transcript: Transcript) -> None:
        """Raises DecodeError and RequestError."""
        if any(transcript.positions) and not self._backend.can_continue:
            raise RequestError(INTERRUPTED)
        running.resolved = await self._resolved(running.job)
        await _guarded(running.job, self._backend.prepare(running.resolved))

    async def _resolved(self, job: Job) -> Resolved:
        if job.raw_resolved is not None:
            return self._backend.load(job.raw_resolved)
        resolved = await _guarded(job, self._backend.resolve(job.request))
        failpoint("resolved")
        return resolved


async def _guarded(job: Job, reading: Awaitable[T]) -> T:
    """Turn an unexpected error while a request is read into a RequestError, so that only this job fails."""
    try:
        return await reading
    except RequestError:
        raise
    except Exception as error:
        # Logs show where it was raised, and not its text, which may contain the prompt.
        logger.error("cannot read the request of %s: %s", job.id, type(error).__name__, exc_info=error)
        raise RequestError(UNREADABLE_REQUEST) from None
