"""TaskPool: a Celery pool whose "processes" are the slots of one backend with continuous batching.

Celery passes each message to the pool, and acknowledges it when the pool reports its end. The body of a task never
runs, so there are no results, retries, chords, time limits or task signals. The hooks are described at
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
    """What the pool needs of the worker. All methods may be called from Celery's thread."""

    @property
    def is_alive(self) -> bool: ...
    def start(self) -> None: ...
    def hold(self, wake_up: PendingTask) -> None: ...
    def terminate(self, wake_up: PendingTask) -> None: ...
    @property
    def num_usable_wake_ups(self) -> int:
        """How many wake-ups the worker can use now, including those of the running jobs."""

    def info(self) -> Mapping[str, Any]: ...
    def drain(self) -> None:
        """Drain the worker. Blocks for a bounded time. Idempotent."""


class TaskPool(BasePool):  # type: ignore[misc]  # celery is untyped
    """Celery creates the pool itself, from a class that `bound_to` returns."""

    worker: ClassVar[WorkerHandle]

    #: Draining waits for another thread, so Celery must not do it in a signal handler.
    signal_safe = False
    task_join_will_block = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._inbox = HubQueue()
        self._pids = itertools.count(1)
        self._by_task: dict[str, PendingTask] = {}

    @classmethod
    def bound_to(cls, worker: WorkerHandle) -> type[TaskPool]:
        """Return a pool class for this worker."""
        return type("TaskPool", (cls,), {"worker": worker, "__module__": cls.__module__})

    def on_start(self) -> None:
        # Make a signal end the loop's poll at once. Otherwise the poll may last another second.
        signal.set_wakeup_fd(self._inbox.writer, warn_on_full_buffer=False)
        self.worker.start()

    def did_start_ok(self) -> bool:
        return self.worker.is_alive

    @property
    def num_processes(self) -> int:
        """How many messages Celery may hold. It leaves wake-ups that this worker cannot use now to idle workers.

        Repeated deliveries of a wake-up count as messages but need no slot.
        """
        further = sum(wake_up.num_deliveries - 1 for wake_up in self._by_task.values())
        return self.worker.num_usable_wake_ups + further

    def register_with_event_loop(self, hub: Any) -> None:
        """Called by Celery at the start and after each broken connection."""
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
        """Take a message. Celery keeps a weak reference to the returned object and calls its `terminate`.

        A message that names no job is acknowledged and dropped. Anybody with the broker's password can send one.
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
        """Called for `revoke(terminate=True)`, from Flower or `celery control`, on a started task."""
        for wake_up in list(self._by_task.values()):
            if wake_up.pid == pid:
                wake_up.terminate(signal)

    def on_stop(self) -> None:
        """Called on a warm or cold shutdown. Consuming has stopped, and the connection is still open."""
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
    """Return the job that a message names. None: it is not a message of Baton."""
    match request:
        case {"args": [str(job_id), *_]} if job_id.startswith(JOB_PREFIX):
            return job_id
        case _:
            return None
