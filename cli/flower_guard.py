"""What Flower does not do here: show metrics without the password, and start tasks or change queues.

A wake-up says only that a queue has a job. One that a person sends starts nothing, and a worker that consumes another
model's queue takes the wake-ups of its workers.
"""

from __future__ import annotations

from typing import Any

import tornado.web
from flower.api import control, tasks
from flower.urls import handlers
from flower.views import BaseHandler
from flower.views.monitor import Metrics
from tornado.routing import URLSpec

_REFUSED = (
    *(tasks.TaskApply, tasks.TaskAsyncApply, tasks.TaskSend),
    *(control.WorkerQueueAddConsumer, control.WorkerQueueCancelConsumer),
    *(
        control.WorkerPoolGrow,
        control.WorkerPoolShrink,
        control.WorkerPoolAutoscale,
        control.WorkerPoolRestart,
    ),
)


class ProtectedMetrics(Metrics):  # type: ignore[misc]  # flower is untyped
    """Flower serves its metrics to anyone."""

    @tornado.web.authenticated
    async def get(self) -> None:
        await super().get()


class Refused(BaseHandler):  # type: ignore[misc]
    """Takes the place of an action."""

    @tornado.web.authenticated
    def post(self, *_: str) -> None:
        self.set_status(403)
        self.finish(
            "Baton does not allow this: its workers take jobs from their own queues. Use `baton` or the API."
        )


def guard(routes: list[Any] = handlers) -> None:
    """Replace these handlers in Flower's list, before it starts."""
    routes[:] = [_guarded(route) for route in routes]


def _guarded(route: Any) -> Any:
    if isinstance(route, URLSpec):
        return route
    pattern, handler, *rest = route
    if handler in _REFUSED:
        handler = Refused
    elif handler is Metrics:
        handler = ProtectedMetrics
    return (pattern, handler, *rest)
