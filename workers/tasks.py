"""The one Celery task, as a worker knows it. Its body never runs: the pool hands the message on."""

from __future__ import annotations

from typing import Any

from celery import Celery, Task
from celery.worker.request import Request

from shared import keys


class BellRequest(Request):  # type: ignore[misc]  # celery is untyped
    """A bell that was delivered."""

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Called for each running task on a cold shutdown. The worker's drain queues the jobs again; only
        `terminate`, which a person asked for, cancels one."""


class BellTask(Task):  # type: ignore[misc]  # celery is untyped
    """A call to a model's queue."""

    name = keys.BELL_TASK
    Request = BellRequest
    acks_late = True
    ignore_result = True

    def run(self, job_id: str) -> None:
        """Never: see TaskPool."""
        raise NotImplementedError(f"{job_id}: bells are answered by workers.pool.TaskPool")


def register_bell(app: Celery) -> None:
    """Make the app a worker's."""
    app.register_task(BellTask())
