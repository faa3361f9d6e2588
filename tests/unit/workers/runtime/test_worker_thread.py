from __future__ import annotations

import asyncio
import queue
import threading
from typing import Any, cast

import pytest

from workers.celery_app.pending_task import PendingTask
from workers.runtime.worker import Worker
from workers.runtime.worker_thread import WorkerThread

WAIT_S = 5


class FakeWorker:
    """Runs until it is drained, or fails."""

    num_usable_wake_ups = 4

    finish_s = 0.0

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.held = queue.SimpleQueue[tuple[PendingTask, int]]()
        self.is_drained = asyncio.Event()

    async def run(self) -> None:
        if self.error is not None:
            raise self.error
        await self.is_drained.wait()

    def hold(self, wake_up: PendingTask) -> None:
        self.held.put((wake_up, threading.get_ident()))

    def stats(self) -> dict[str, Any]:
        return {"running": 0}

    async def drain(self) -> None:
        self.is_drained.set()


def made(worker: FakeWorker) -> tuple[WorkerThread, queue.SimpleQueue[BaseException]]:
    deaths = queue.SimpleQueue[BaseException]()
    return WorkerThread(cast(Worker, worker), {"device": "cpu"}, on_death=deaths.put), deaths


def test_wake_ups_reach_the_worker_on_its_own_thread() -> None:
    worker = FakeWorker()
    thread, _ = made(worker)
    thread.start()
    wake_up = cast(PendingTask, object())
    thread.hold(wake_up)
    held, ident = worker.held.get(timeout=WAIT_S)
    assert held is wake_up and ident != threading.get_ident()
    assert thread.info() == {"device": "cpu", "running": 0}
    thread.drain()
    thread.drain()
    assert not thread.is_alive


@pytest.mark.parametrize("error", [RuntimeError(), MemoryError()])
def test_a_worker_that_fails_is_reported(error: Exception) -> None:
    thread, deaths = made(FakeWorker(error))
    thread.start()
    assert deaths.get(timeout=WAIT_S) is error
    thread.drain()
