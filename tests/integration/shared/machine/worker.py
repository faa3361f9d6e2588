"""MachineWorker: a worker by the protocol, one step at a time. Its running jobs are those of the real one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from shared.domain.job import Job
from shared.domain.lease import Lease
from shared.domain.usage import Usage
from shared.errors import StoreUnavailable
from shared.store.append import Append, AppendAnswer
from tests.integration.shared.machine.faulty_store import FaultyStore
from tests.integration.shared.machine.plan import MODEL, NUM_PROMPT_TOKENS, REVISION, Plan, PlanResolved
from workers.runtime.running_job import RunningJob
from workers.runtime.transcript import Transcript

SLOTS = 2


class MachineWorker:
    """One worker, through all its worker instances. Raises StoreUnavailable where a call's answer was lost."""

    def __init__(self, name: str, store: FaultyStore, plans: Mapping[str, Plan]) -> None:
        self._store = store
        self._plans = plans
        self._num_lives = self._num_words = 0
        self._lease = Lease("", name, MODEL, "host", 1, "cpu", SLOTS, REVISION)
        self.jobs: dict[str, RunningJob] = {}
        #: Words of those whose stream was read.
        self._begun: set[str] = set()
        self._strays: set[tuple[str, str]] = set()
        self._word: str | None = None
        self._is_registered = False
        self._begin_anew()

    @property
    def worker_instance(self) -> str:
        return self._lease.worker_instance

    def _begin_anew(self) -> None:
        self._num_lives += 1
        self.jobs.clear()
        self._strays.clear()
        self._word, self._is_registered = None, False
        self._lease = replace(self._lease, worker_instance=f"{self._lease.name}.{self._num_lives}")

    def die(self) -> None:
        """kill -9, and a new process."""
        self._begin_anew()

    def upgrade(self, revision: str, *, can_continue: bool = True) -> None:
        """kill -9, and a new process with this revision of the model, and maybe another backend."""
        self._lease = replace(self._lease, model_revision=revision, can_continue=can_continue)
        self._begin_anew()

    async def drain(self) -> None:
        """Flush, release, and start again."""
        await self.publish()
        await self._store.release(self.worker_instance, "drain", died=False)
        self._begin_anew()

    async def beat(self) -> None:
        """A sign of life, and what its answer asks for (workers/runtime/health/heartbeat.py)."""
        await self._register()
        known = {job.job.id: word for word, job in self.jobs.items()}
        answer = await self._store.beat(self.worker_instance, steps=0, wake_ups=0, running=known, stats={})
        if answer is None:
            return self._begin_anew()
        if self._word is not None:
            return self._strays.clear()
        strays = set(answer.strays.items())
        for job_id, word in sorted(strays & self._strays):
            await self._store.requeue(job_id, word, "given_back")
        self._strays = strays - self._strays

    async def _register(self) -> None:
        if not self._is_registered:
            await self._store.register(self._lease)
            self._is_registered = True

    async def claim(self) -> None:
        """Take a job, always asking with the same word until there is an answer (workers/runtime/claimer.py)."""
        await self._register()
        if len(self.jobs) >= SLOTS:
            return
        if self._word is None:
            self._num_words += 1
            self._word = f"{self.worker_instance}-{self._num_words}"
        answer = await self._store.claim(self._lease, self._word)
        word, self._word = self._word, None
        if answer == "unknown":
            return self._begin_anew()
        if isinstance(answer, Job):
            self._take(answer, word)

    def _take(self, job: Job, word: str) -> None:
        running = RunningJob(job, word, None)
        own = self._lease.model_revision
        assert job.raw_resolved in (None, own), "begun with another revision"
        running.resolved = PlanResolved(own)
        self.jobs[word] = running

    def generate(self, drawn: int) -> None:
        """A step of the engine for every job that was begun."""
        for running in (job for word, job in self.jobs.items() if word in self._begun):
            choices = self._plans[running.job.id].step(running.transcript, drawn)
            # The prompt counts once, with the first tokens.
            num_prompt = 0 if running.transcript.used.prompt else NUM_PROMPT_TOKENS
            used = Usage(num_prompt, sum(len(choice.texts) for choice in choices))
            if choices:
                running.transcript.take(choices, used)

    async def publish(self) -> None:
        """Write what there is, or ask whether the jobs are still mine (workers/runtime/publisher.py)."""
        for running in self.jobs.values():
            if not running.is_sure or running.claim_token not in self._begun:
                await self._look(running)
        due = list(self.jobs.values())
        try:
            for running in due:
                if (result := running.unstored_result()) is not None:
                    await self._store.keep_result(running.job.id, running.claim_token, result)
            batch = [running.append() for running in due]
            answers = await self._store.append(batch) if batch else []
        except StoreUnavailable:
            for running in due:
                running.doubt()
            raise
        for running, append, answer in zip(due, batch, answers, strict=True):
            self._settle(running, append, answer)

    async def _look(self, running: RunningJob) -> None:
        found = Transcript.of(await self._store.entries(running.job.id), running.job.n)
        if running.claim_token not in self._begun:
            self._begun.add(running.claim_token)
            running.begin(found)
        running.learn(found)

    def _settle(self, running: RunningJob, append: Append, answer: AppendAnswer) -> None:
        if answer.kind != "end":
            del self.jobs[running.claim_token]
        elif answer.positions == append.end and append.terminal is None:
            running.confirm(append)
        else:
            running.doubt()

    async def preempt(self) -> None:
        """Give the first job up, with all that was released of it."""
        for word, running in list(self.jobs.items())[:1]:
            await self._store.requeue(running.job.id, word, "preempted")
            del self.jobs[word]
