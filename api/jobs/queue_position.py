"""QueuePosition: where a waiting job stands."""

from __future__ import annotations

from typing import NamedTuple


class QueuePosition(NamedTuple):
    """A job's place in its model's queue, as of now. Never stored."""

    #: How many jobs come first.
    position: int
    #: About how long until a worker takes it; None when nothing was measured lately or no worker lives.
    eta_seconds: int | None
