"""A worker that could claim jobs and does not ends itself. A worker without a reason to claim continues."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.lease import Lease
from shared.domain.wake_up import WakeUp
from shared.store.job_store import JobStore
from tests.integration.workers.harness import MODEL, CelerySide, Jobs
from tests.scripted_backend import scripted_backend
from workers.runtime.claimer import Claimer
from workers.runtime.health.telemetry import Telemetry
from workers.runtime.health.watchdog import MAX_IDLE_LOOKS, Watchdog, WorkerIdle
from workers.runtime.lease import LeaseKeeper
from workers.runtime.running_job import RunningJob, RunningJobs
from workers.runtime.task_set import TaskSet


class Idle:
    """A worker whose claimer does nothing but what the test does."""

    def __init__(self, store: JobStore, sender: WakeUpSender) -> None:
        backend = scripted_backend(slots=1)
        self.jobs = RunningJobs(backend, Telemetry(), slots=1)
        self.lease = LeaseKeeper(store, Lease("", "w", MODEL, "host", 1, "cpu", 1, "scripted-1"), self.jobs)
        task_set = TaskSet(lambda _: None)
        self.claimer = Claimer(store, self.lease, self.jobs, backend, task_set)
        self.watchdog = Watchdog(store, sender, self.jobs, self.claimer, model=MODEL)

    async def look(self, times: int) -> None:
        for _ in range(times):
            await self.watchdog.look()

    async def is_ended_by_the_next_look(self) -> bool:
        try:
            await self.watchdog.look()
        except WorkerIdle:
            return True
        return False

    def hold(self, job_id: str) -> None:
        CelerySide().wake_up(job_id, self.claimer)


@pytest.fixture
def idle(store: JobStore, sender: WakeUpSender) -> Idle:
    return Idle(store, sender)


async def test_a_worker_that_holds_a_wake_up_and_claims_nothing_ends(jobs: Jobs, idle: Idle) -> None:
    idle.hold(await jobs.create())
    await idle.look(MAX_IDLE_LOOKS - 1)
    assert await idle.is_ended_by_the_next_look()


async def test_a_worker_that_takes_no_wake_up_ends(jobs: Jobs, sender: WakeUpSender, idle: Idle) -> None:
    await sender.send([WakeUp(await jobs.create(), MODEL)])
    await idle.look(MAX_IDLE_LOOKS - 1)
    assert await idle.is_ended_by_the_next_look()


async def test_nothing_to_claim_is_no_reason(jobs: Jobs, idle: Idle) -> None:
    idle.hold("job_of_another_time")
    await idle.look(2 * MAX_IDLE_LOOKS)
    idle.claimer.withdraw(idle.claimer.wake_ups[0])
    await jobs.create()  # and nobody rang
    await idle.look(2 * MAX_IDLE_LOOKS)


async def test_a_worker_without_a_free_slot_need_not_claim(jobs: Jobs, idle: Idle) -> None:
    job_id = await jobs.create()
    idle.hold(job_id)
    idle.jobs.add(RunningJob(await jobs.get(job_id), "word", None))
    await idle.look(2 * MAX_IDLE_LOOKS)


async def test_a_claim_that_gets_nothing_counts(jobs: Jobs, idle: Idle) -> None:
    idle.hold(await jobs.create())
    await idle.look(MAX_IDLE_LOOKS - 1)
    idle.claimer.num_asked += 1
    await idle.look(MAX_IDLE_LOOKS)
    assert await idle.is_ended_by_the_next_look()


async def test_the_watchdog_checks_nothing_while_redis_is_away(
    redis_client: Redis, jobs: Jobs, idle: Idle, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle.hold(await jobs.create())
    await idle.look(MAX_IDLE_LOOKS - 1)
    with monkeypatch.context() as patch:
        patch.setattr(redis_client, "execute_command", _refuse)
        await idle.look(1)
    await idle.look(MAX_IDLE_LOOKS - 1)
    assert await idle.is_ended_by_the_next_look()


async def _refuse(*_: object, **__: object) -> None:
    raise ConnectionError("refused")
