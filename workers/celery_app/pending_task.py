"""PendingTask: a Celery message in this worker's hands, from its delivery to its acknowledgement."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from billiard.einfo import ExceptionInfo

from shared.runtime.failpoint import failpoint

#: Runs a call in Celery's thread.
Post = Callable[..., None]


class JobFailed(Exception):
    """Raised for Celery's eyes when a wake_up's job failed: the job and its error's code, never its content."""


class Delivery(NamedTuple):
    """Celery's two callbacks for one delivery of a message; to be called in Celery's thread."""

    #: (pid, monotonic time): the task has started.
    accept: Callable[[int, float], None]
    #: ((0, result, runtime)) or ((1, ExceptionInfo, runtime)): the task is over; acknowledges.
    end: Callable[[tuple[int, Any, float]], None]


class PendingTask:
    """One wake-up. The claimer pairs it with the job that it got, and to Celery its task takes as long as that.

    After a broken connection Celery's transport delivers the messages that it holds again: further
    deliveries of the same message belong to the same wake-up, and each gets every callback.
    """

    def __init__(
        self,
        *,
        pid: int,
        job_id: str,
        post: Post,
        forget: Callable[[], None],
        on_terminate: Callable[[PendingTask], None],
    ) -> None:
        #: Not a process: Celery addresses the task by it.
        self.pid = pid
        #: The job that rang; another one may be claimed with it.
        self.job_id = job_id
        self._post = post
        self._forget = forget
        self._on_terminate = on_terminate
        self._deliveries: list[Delivery] = []
        self._accepted_at: float | None = None
        self._is_terminated = False

    @property
    def num_deliveries(self) -> int:
        return len(self._deliveries)

    # For the claimer, from any thread

    def accept(self) -> None:
        """It got a job."""
        self._post(self._accept, time.monotonic())

    def end(self, result: str) -> None:
        """There is nothing more to do for it. `result` names the job that ran."""
        self._post(self._end, 0, result)

    def fail(self, reason: str) -> None:
        """Its job failed. `reason` names the job and the error's code."""
        self._post(self._end, 1, reason)

    # In Celery's thread

    def deliver(self, delivery: Delivery) -> None:
        """Celery brought the message (again)."""
        self._deliveries.append(delivery)
        if self._accepted_at is not None:
            delivery.accept(self.pid, self._accepted_at)

    def terminate(self, signal: int | None = None) -> None:  # noqa: ARG002  # Celery passes it
        """Celery revoked the task, with termination. Celery announces and acknowledges that by itself."""
        if not self._is_terminated:
            self._is_terminated = True
            self._on_terminate(self)

    def _accept(self, at: float) -> None:
        self._accepted_at = at
        for delivery in self._deliveries:
            delivery.accept(self.pid, at)

    def _end(self, status: int, text: str) -> None:
        self._forget()
        if self._is_terminated:
            return
        now = time.monotonic()
        started = now if self._accepted_at is None else self._accepted_at
        outcome = _failure(text) if status else text
        failpoint("acknowledging")
        for delivery in self._deliveries:
            delivery.end((status, outcome, now - started))
        failpoint("acknowledged")


def _failure(reason: str) -> ExceptionInfo:
    try:
        raise JobFailed(reason)
    except JobFailed as error:
        info = ExceptionInfo()
        # billiard wraps it for its way through a pipe, which is not gone here.
        info.exception = error
        return info
