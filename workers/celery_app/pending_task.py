"""PendingTask: a Celery message, from its delivery to this worker until its acknowledgement."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from billiard.einfo import ExceptionInfo

from shared.runtime.failpoint import failpoint

#: Runs a call in Celery's thread.
Post = Callable[..., None]


class JobFailed(Exception):
    """Reports to Celery that a wake-up's job failed. It names the job and the error's code, never any content."""


class Delivery(NamedTuple):
    """Celery's two callbacks for one delivery of a message. They must be called in Celery's thread."""

    #: Takes (pid, monotonic time) when the task starts.
    accept: Callable[[int, float], None]
    #: Takes (0, result, runtime) or (1, ExceptionInfo, runtime) when the task ends. Acknowledges the message.
    end: Callable[[tuple[int, Any, float]], None]


class PendingTask:
    """One wake-up. The claimer pairs it with a claimed job. For Celery, its task runs as long as the job.

    After a broken connection Celery delivers unacknowledged messages again. Repeated deliveries of a message belong to
    the same wake-up, and every callback is called for each delivery.
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
        #: Not a process id. Celery uses it to address the task.
        self.pid = pid
        #: The job for which the wake-up was sent. It may be used to claim another job.
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
        """Report that a job was claimed with this wake-up."""
        self._post(self._accept, time.monotonic())

    def end(self, result: str) -> None:
        """End the task. `result` says what happened, and names the job that ran."""
        self._post(self._end, 0, result)

    def fail(self, reason: str) -> None:
        """End the task as failed. `reason` names the job and the error's code."""
        self._post(self._end, 1, reason)

    # In Celery's thread

    def deliver(self, delivery: Delivery) -> None:
        """Add a delivery of the message."""
        self._deliveries.append(delivery)
        if self._accepted_at is not None:
            delivery.accept(self.pid, self._accepted_at)

    def terminate(self, signal: int | None = None) -> None:  # noqa: ARG002  # Celery passes it
        """Handle a revoked task. Celery itself announces and acknowledges the revocation."""
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
        # billiard has wrapped it to send it through a pipe. There is no pipe here.
        info.exception = error
        return info
