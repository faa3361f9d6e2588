"""WakeUp: a Celery message that calls a worker to a model's queue."""

from __future__ import annotations

from typing import NamedTuple


class WakeUp(NamedTuple):
    """A call to a model's queue; the job is named for people."""

    job_id: str
    model: str
