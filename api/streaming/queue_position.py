"""QueuePosition: where a job stands in its model's queue."""

from __future__ import annotations

from typing import NamedTuple


class QueuePosition(NamedTuple):
    """A job's position in its model's queue, as of now. It is not stored."""

    #: How many jobs come before it.
    position: int
    #: Estimated seconds until a worker takes it; None without recent measurements or without a worker.
    eta_seconds: int | None
