"""The reply to a heartbeat names strays, which the worker queues again after two replies in a row."""

from __future__ import annotations

import pytest

from shared.cluster.reaper import Reaper
from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.lease import Lease
from shared.store.job_store import JobStore
from tests.integration.workers.harness import MODEL, Jobs
from tests.scripted_backend import scripted_backend
from workers.runtime.claimer import Claimer
from workers.runtime.health.heartbeat import Heartbeat
from workers.runtime.health.strays import Strays
from workers.runtime.health.telemetry import Telemetry
from workers.runtime.health.vitals import Vitals
from workers.runtime.lease import LeaseKeeper
from workers.runtime.running_job import RunningJobs
from workers.runtime.task_set import TaskSet


class Beating:
    """A worker's heartbeat, without the worker: nothing claims here but the test."""

    def __init__(self, store: JobStore, sender: WakeUpSender) -> None:
        backend, telemetry = scripted_backend(slots=4), Telemetry()
        jobs = RunningJobs(backend, telemetry, slots=4)
        lease = Lease("", "w", MODEL, "host", 1, "cpu", 4, "scripted-1")
        self.lease = LeaseKeeper(store, lease, jobs)
        task_set = TaskSet(lambda _: None)
        self.claimer = Claimer(store, self.lease, jobs, backend, task_set)
        reaper = Reaper(store, sender, lease_s=3)
        vitals = Vitals(jobs, self.claimer, backend, telemetry, reaper)
        strays = Strays(store, sender, jobs, self.claimer, model=MODEL)
        self.heartbeat = Heartbeat(store, self.lease, jobs, vitals, strays, lambda: None)


@pytest.fixture
def beating(store: JobStore, sender: WakeUpSender) -> Beating:
    return Beating(store, sender)


async def test_a_stray_is_given_back_when_it_was_named_twice(
    store: JobStore, jobs: Jobs, beating: Beating
) -> None:
    await beating.lease.begin()
    job_id = await jobs.create()
    await store.claim(beating.lease.lease, "word")
    await beating.heartbeat.beat()
    assert (await jobs.get(job_id)).status == "in_progress"
    await beating.heartbeat.beat()
    assert (await jobs.get(job_id)).status == "queued"


async def test_nothing_is_given_back_while_a_claim_is_under_way(
    store: JobStore, jobs: Jobs, beating: Beating
) -> None:
    await beating.lease.begin()
    job_id = await jobs.create()
    await store.claim(beating.lease.lease, "word")
    beating.claimer.is_claiming = True
    for _ in range(3):
        await beating.heartbeat.beat()
    assert (await jobs.get(job_id)).status == "in_progress"
    # What was named before counts no more.
    beating.claimer.is_claiming = False
    await beating.heartbeat.beat()
    assert (await jobs.get(job_id)).status == "in_progress"
