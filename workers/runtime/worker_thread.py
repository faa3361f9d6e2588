"""WorkerThread: runs the worker's event loop in a thread, and passes calls from Celery's thread to it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import uvloop

from workers.celery_app.pending_task import PendingTask
from workers.runtime.worker import Worker

logger = logging.getLogger(__name__)

#: A drain is bounded part by part; this is for the case that the loop itself is stuck.
_DRAIN_S = 2.5


class WorkerThread:
    """Runs a worker. `on_death` is called when it ends unexpectedly."""

    def __init__(
        self,
        worker: Worker,
        description: Mapping[str, Any],
        *,
        on_death: Callable[[BaseException], None],
    ) -> None:
        self._worker = worker
        self._description = description
        self._on_death = on_death
        self._loop = uvloop.new_event_loop()
        self._is_drained = False
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def num_usable_wake_ups(self) -> int:
        return self._worker.num_usable_wake_ups

    def start(self) -> None:
        self._thread.start()

    def hold(self, wake_up: PendingTask) -> None:
        self._loop.call_soon_threadsafe(self._worker.hold, wake_up)

    def terminate(self, wake_up: PendingTask) -> None:
        asyncio.run_coroutine_threadsafe(self._worker.terminate(wake_up), self._loop)

    def info(self) -> Mapping[str, Any]:
        """Return what `celery inspect stats` shows under `pool`."""
        return {**self._description, **self._worker.stats()}

    def drain(self) -> None:
        """Leave in order, within two seconds or so."""
        if self._is_drained or not self.is_alive:
            return
        self._is_drained = True
        draining = asyncio.run_coroutine_threadsafe(self._worker.drain(), self._loop)
        try:
            draining.result(_DRAIN_S + self._worker.finish_s)
        except TimeoutError:
            logger.error("the worker did not drain in time")
        self._thread.join(0.5)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._worker.run())
        except BaseException as error:
            self._on_death(error)
