"""The Celery task of a worker. Its body never runs, because the pool takes the message."""

from __future__ import annotations

from typing import Any

from celery import Celery, Task
from celery.worker.request import Request

from shared.store import keys


class WakeUpRequest(Request):  # type: ignore[misc]  # celery is untyped
    """A wake-up that was delivered."""

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Called for each running task on a cold shutdown. Does nothing, because the worker's drain requeues the jobs.

        Only `terminate`, on a person's request, cancels a job.
        """


class WakeUpTask(Task):  # type: ignore[misc]  # celery is untyped
    """A wake-up for a model's queue."""

    name = keys.WAKE_UP_TASK
    Request = WakeUpRequest
    acks_late = True
    ignore_result = True

    def run(self, job_id: str) -> None:
        """Never called. See TaskPool."""
        raise NotImplementedError(f"{job_id}: wake-ups are handled by workers.celery_app.pool.TaskPool")


def register_wake_up_task(app: Celery) -> None:
    """Register the task with a worker's app."""
    app.register_task(WakeUpTask())
