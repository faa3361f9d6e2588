"""TaskPool: Celery's pool, whose processes are the slots of one continuously batched backend.

Celery hands over each message and has it acknowledged when its job ends; its tracing of a task's body is not
used, so there are no results, retries, chords, time limits or task signals. Hooks:
https://docs.celeryq.dev/en/stable/internals/reference/celery.concurrency.base.html
"""

from __future__ import annotations

import itertools
import logging
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Protocol

from celery.concurrency.base import BasePool

from shared.domain.job import JOB_PREFIX
from workers.celery_app.hub_queue import HubQueue
from workers.celery_app.pending_task import Delivery, PendingTask

logger = logging.getLogger(__name__)


class WorkerHandle(Protocol):
    """What the pool needs of the worker behind it. Each may be called from Celery's thread."""

    @property
    def is_alive(self) -> bool: ...
    def start(self) -> None: ...
    def hold(self, wake_up: PendingTask) -> None: ...
    def terminate(self, wake_up: PendingTask) -> None: ...
    @property
    def num_usable_wake_ups(self) -> int:
        """How many wake-ups it can answer at once, with those of the jobs that run."""

    def info(self) -> Mapping[str, Any]: ...
    def drain(self) -> None:
        """Leave in order. Blocking, bounded, idempotent."""


class TaskPool(BasePool):  # type: ignore[misc]  # celery is untyped
    """Made by `bound_to`: Celery takes a class and makes the pool itself."""

    worker: ClassVar[WorkerHandle]

    #: Draining waits for another thread: not from inside a signal handler.
    signal_safe = False
    task_join_will_block = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._inbox = HubQueue()
        self._pids = itertools.count(1)
        self._by_task: dict[str, PendingTask] = {}

    @classmethod
    def bound_to(cls, worker: WorkerHandle) -> type[TaskPool]:
        """A pool in front of this worker."""
        return type("TaskPool", (cls,), {"worker": worker, "__module__": cls.__module__})

    def on_start(self) -> None:
        # A signal ends the loop's poll at once, which would else go on for up to a second.
        signal.set_wakeup_fd(self._inbox.writer, warn_on_full_buffer=False)
        self.worker.start()

    def did_start_ok(self) -> bool:
        return self.worker.is_alive

    @property
    def num_processes(self) -> int:
        """How many messages Celery may hold: it takes no wake-up that an idle worker could answer at once. The
        further deliveries of a wake-up are messages, and need no slot."""
        further = sum(wake_up.num_deliveries - 1 for wake_up in self._by_task.values())
        return self.worker.num_usable_wake_ups + further

    def register_with_event_loop(self, hub: Any) -> None:
        """Called at the start and after each broken connection."""
        self._inbox.register(hub)

    def on_apply(
        self,
        target: Any,  # noqa: ARG002  # Celery's tracer: not used
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,  # noqa: ARG002
        *,
        accept_callback: Callable[[int, float], None],
        callback: Callable[[tuple[int, Any, float]], None],
        **_: Any,
    ) -> PendingTask | None:
        """A message. Celery keeps a weak reference to what is returned and calls its `terminate`.

        One that names no job, such as anybody may send with the broker's password, is acknowledged and dropped.
        """
        _, task_id, request, *_rest = args
        job_id = _job_id(request)
        if job_id is None:
            logger.warning("dropped a Celery message of the wake-up task that names no job")
            self._inbox.post(accept_callback, 0, time.monotonic())
            self._inbox.post(callback, (0, "dropped: the message names no job", 0.0))
            return None
        wake_up = self._by_task.get(task_id)
        if wake_up is not None:
            wake_up.deliver(Delivery(accept_callback, callback))
            return wake_up
        wake_up = self._by_task[task_id] = PendingTask(
            pid=next(self._pids),
            job_id=job_id,
            post=self._inbox.post,
            forget=partial(self._forget, task_id),
            on_terminate=self.worker.terminate,
        )
        wake_up.deliver(Delivery(accept_callback, callback))
        self.worker.hold(wake_up)
        return wake_up

    def _forget(self, task_id: str) -> None:
        self._by_task.pop(task_id, None)

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """`revoke(terminate=True)`, from Flower or `celery control`, of a task that has begun."""
        for wake_up in list(self._by_task.values()):
            if wake_up.pid == pid:
                wake_up.terminate(signal)

    def on_stop(self) -> None:
        """Warm and cold shutdown. Consuming has stopped, the connection is still open."""
        self.worker.drain()
        self._inbox.deliver()

    on_terminate = on_stop

    def grow(self, n: int = 1) -> None:
        raise NotImplementedError(f"slots are set by BATON_MAX_SLOTS, not by {n:+d}")

    def shrink(self, n: int = 1) -> None:
        raise NotImplementedError(f"slots are set by BATON_MAX_SLOTS, not by {-n:+d}")

    def _get_info(self) -> dict[str, Any]:
        return {**super()._get_info(), **self.worker.info(), "wake_ups": len(self._by_task)}


def _job_id(request: Any) -> str | None:
    """The job that a message names; None where it is not a message of ours."""
    match request:
        case {"args": [str(job_id), *_]} if job_id.startswith(JOB_PREFIX):
            return job_id
        case _:
            return None
