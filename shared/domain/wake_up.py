"""WakeUp: a Celery message that asks a worker to look at a model's queue."""

from __future__ import annotations

from typing import NamedTuple


class WakeUp(NamedTuple):
    """The job is only information for people: the worker claims the first job of the queue."""

    job_id: str
    model: str
