"""make_worker: builds a worker from its parts."""

from __future__ import annotations

from collections.abc import Callable

from shared.cluster.reaper import Reaper
from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.lease import Lease
from shared.store.job_store import JobStore
from workers.backends.backend import Backend
from workers.runtime.answerer import Answerer
from workers.runtime.claimer import Claimer
from workers.runtime.health.heartbeat import Heartbeat
from workers.runtime.health.step_guard import STEP_TIMEOUT_S, StepGuard
from workers.runtime.health.strays import Strays
from workers.runtime.health.telemetry import Telemetry
from workers.runtime.health.vitals import Vitals
from workers.runtime.health.watchdog import Watchdog
from workers.runtime.lease import LeaseKeeper
from workers.runtime.preemptor import Preemptor
from workers.runtime.publisher import Publisher
from workers.runtime.running_job import RunningJobs
from workers.runtime.task_set import TaskSet
from workers.runtime.worker import Duty, Worker


def make_worker(
    store: JobStore,
    sender: WakeUpSender,
    lease: Lease,
    backend: Backend,
    *,
    lease_s: float,
    on_death: Callable[[BaseException], None],
    on_drain: Callable[[], None],
    step_timeout_s: float = STEP_TIMEOUT_S,
    finish_s: float = 0.0,
) -> Worker:
    """Return a worker that does not run yet.

    `finish_s` is how long a drain waits for jobs with released output that no other worker can continue.

    `on_death` is called, from any thread, when a part of the worker ends unexpectedly. It must end the process.
    `on_drain` is called after each heartbeat while the store asks the worker to drain. It must lead to `drain`.
    """
    task_set, telemetry = TaskSet(on_death), Telemetry()
    jobs = RunningJobs(backend, telemetry, slots=lease.slots)
    keeper = LeaseKeeper(store, lease, jobs)
    claimer = Claimer(store, keeper, jobs, backend, task_set)
    publisher = Publisher(store, jobs, telemetry)
    reaper = Reaper(store, sender, lease_s=lease_s)
    vitals = Vitals(jobs, claimer, backend, telemetry, reaper)
    strays = Strays(store, sender, jobs, claimer, model=lease.model)
    claiming: dict[str, Duty] = {
        "claimer": claimer.run,
        "watchdog": Watchdog(store, sender, jobs, claimer, model=lease.model).run,
        "reaper": reaper.run,
        "answerer": Answerer(store.questions, backend, model=lease.model).run,
    }
    if backend.can_continue:
        claiming["preemptor"] = Preemptor(jobs, claimer).run
    return Worker(
        store,
        sender,
        backend,
        jobs,
        keeper,
        claimer,
        publisher,
        vitals,
        task_set,
        finish_s=0.0 if backend.can_continue else finish_s,
        claiming=claiming,
        living={
            "heartbeat": Heartbeat(store, keeper, jobs, vitals, strays, on_drain).run,
            "step guard": StepGuard(backend, timeout_s=step_timeout_s).run,
        },
    )
