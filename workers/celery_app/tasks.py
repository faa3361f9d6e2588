"""The one Celery task, as a worker knows it. Its body never runs: the pool hands the message on."""

from __future__ import annotations

from typing import Any

from celery import Celery, Task
from celery.worker.request import Request

from shared.store import keys


class WakeUpRequest(Request):  # type: ignore[misc]  # celery is untyped
    """A wake-up that was delivered."""

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Called for each running task on a cold shutdown. The worker's drain queues the jobs again; only
        `terminate`, which a person asked for, cancels one."""


class WakeUpTask(Task):  # type: ignore[misc]  # celery is untyped
    """A call to a model's queue."""

    name = keys.WAKE_UP_TASK
    Request = WakeUpRequest
    acks_late = True
    ignore_result = True

    def run(self, job_id: str) -> None:
        """Never: see TaskPool."""
        raise NotImplementedError(f"{job_id}: wake_ups are answered by workers.celery_app.pool.TaskPool")


def register_wake_up_task(app: Celery) -> None:
    """Make the app a worker's."""
    app.register_task(WakeUpTask())
