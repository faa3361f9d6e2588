"""The pool as Celery calls it: one test a hook."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from shared.store import keys
from workers.celery_app.pending_task import PendingTask
from workers.celery_app.pool import TaskPool


class FakeWorker:
    """What the pool has in front of it; plain state."""

    def __init__(self) -> None:
        self.is_alive = True
        self.num_usable_wake_ups = 4
        self.held: list[PendingTask] = []
        self.terminated: list[PendingTask] = []
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

    def hold(self, wake_up: PendingTask) -> None:
        self.held.append(wake_up)

    def terminate(self, wake_up: PendingTask) -> None:
        self.terminated.append(wake_up)

    def info(self) -> Mapping[str, Any]:
        return {"device": "cpu"}

    def drain(self) -> None:
        self.calls.append("drain")
        for wake_up in self.held:
            wake_up.end("requeued")


class FakeHub:
    """Celery's loop, turned by hand."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], None]] = {}

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        self.readers[fd] = callback

    def turn(self, timeout_s: float = 1.0) -> None:
        """One poll. Fails when nothing woke it."""
        ready, _, _ = select.select(list(self.readers), [], [], timeout_s)
        assert ready
        for fd in ready:
            self.readers[fd]()


class Message:
    """The arguments that Celery passes to `apply_async`, and the calls of its callbacks."""

    def __init__(self, task_id: str, job_id: str) -> None:
        self.task_id = task_id
        self.body: dict[str, Any] = {"args": [job_id], "kwargs": {}}
        self.calls: list[Any] = []

    def apply(self, pool: TaskPool) -> PendingTask:
        wake_up = self.send(pool)
        assert isinstance(wake_up, PendingTask)
        return wake_up

    def send(self, pool: TaskPool) -> Any:
        def never_run(*_args: Any) -> None:
            raise AssertionError("the task's body ran")

        return pool.apply_async(
            never_run,
            args=(keys.WAKE_UP_TASK, self.task_id, self.body, b"", None, None),
            accept_callback=lambda pid, at: self.calls.append(("accepted", pid, at)),
            callback=self.calls.append,
            error_callback=None,
            timeout_callback=None,
            timeout=None,
            soft_timeout=None,
            correlation_id=self.task_id,
        )


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker()


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
def pool(worker: FakeWorker, hub: FakeHub) -> Iterator[TaskPool]:
    pool = TaskPool.bound_to(worker)(4, app=None)
    pool.start()
    pool.register_with_event_loop(hub)
    yield pool
    signal.set_wakeup_fd(-1)


def test_start_starts_the_worker(pool: TaskPool, worker: FakeWorker) -> None:
    assert worker.calls == ["start"]
    assert pool.did_start_ok()


def test_a_signal_wakes_the_loop(pool: TaskPool, hub: FakeHub) -> None:
    assert pool.active
    previous = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        hub.turn()
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_a_message_becomes_a_wake_up_and_its_task_takes_as_long_as_the_job(
    pool: TaskPool, worker: FakeWorker, hub: FakeHub
) -> None:
    message = Message("t1", "job_a")
    wake_up = message.apply(pool)
    assert (worker.held, wake_up.job_id, message.calls) == ([wake_up], "job_a", [])
    wake_up.accept()
    hub.turn()
    ((_, pid, started),) = message.calls
    assert pid == wake_up.pid
    wake_up.end("job_b completed")
    hub.turn()
    status, result, runtime = message.calls[1]
    assert (status, result) == (0, "job_b completed")
    assert 0 <= runtime < 60 and started > 0


def test_a_wake_up_of_a_later_version_may_tell_more(pool: TaskPool) -> None:
    message = Message("t1", "job_a")
    message.body = {"args": ["job_a", "more"], "kwargs": {"mood": "good"}, "origin": "later"}
    assert message.apply(pool).job_id == "job_a"


@pytest.mark.parametrize(
    "body",
    [
        {"args": []},
        {"args": [7]},
        {"args": ["x"]},
        {"args": "job_a"},
        {"kwargs": {"job_id": "job_a"}},
        {},
        None,
    ],
)
def test_a_message_that_names_no_job_is_acknowledged_and_dropped(
    pool: TaskPool, worker: FakeWorker, hub: FakeHub, body: Any
) -> None:
    message = Message("t1", "job_a")
    message.body = body
    assert message.send(pool) is None
    hub.turn()
    assert worker.held == []
    assert [call[0] for call in message.calls] == ["accepted", 0]


def test_a_failed_job_fails_its_task(pool: TaskPool, hub: FakeHub) -> None:
    message = Message("t1", "job_a")
    wake_up = message.apply(pool)
    wake_up.accept()
    wake_up.fail("job_a some_code")
    hub.turn()
    status, info, _ = message.calls[1]
    assert (status, repr(info.exception)) == (1, "JobFailed('job_a some_code')")


def test_a_second_delivery_belongs_to_the_same_wake_up(
    pool: TaskPool, worker: FakeWorker, hub: FakeHub
) -> None:
    first, second = Message("t1", "job_a"), Message("t1", "job_a")
    wake_up = first.apply(pool)
    wake_up.accept()
    hub.turn()
    assert second.apply(pool) is wake_up
    assert worker.held == [wake_up]
    assert second.calls == first.calls
    assert pool.num_processes == worker.num_usable_wake_ups + 1
    wake_up.end("job_a completed")
    hub.turn()
    assert first.calls == second.calls
    assert len(first.calls) == 2
    assert pool.num_processes == worker.num_usable_wake_ups


def test_callbacks_outlive_a_reset_of_the_loop(pool: TaskPool) -> None:
    message = Message("t1", "job_a")
    message.apply(pool).end("nothing queued")
    fresh = FakeHub()
    pool.register_with_event_loop(fresh)
    assert message.calls[0][:2] == (0, "nothing queued")
    other = Message("t2", "job_b")
    other.apply(pool).end("nothing queued")
    fresh.turn()
    assert len(other.calls) == 1


def test_a_callback_that_fails_spares_the_next(
    pool: TaskPool, hub: FakeHub, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = Message("t1", "job_a"), Message("t2", "job_b")
    wake_ups = bad.apply(pool), good.apply(pool)
    bad.calls = None  # type: ignore[assignment]
    for wake_up in wake_ups:
        wake_up.accept()
    hub.turn()
    assert len(good.calls) == 1
    assert "a Celery callback failed" in caplog.text


def test_terminate_job_finds_the_wake_up_by_its_pid(pool: TaskPool, worker: FakeWorker) -> None:
    wake_ups = [Message(f"t{i}", "job_a").apply(pool) for i in range(3)]
    pool.terminate_job(wake_ups[1].pid, signal.SIGTERM)
    wake_ups[1].terminate(signal.SIGTERM)  # Celery calls both
    assert worker.terminated == [wake_ups[1]]


def test_what_celery_announced_as_revoked_is_not_ended_again(pool: TaskPool, hub: FakeHub) -> None:
    message = Message("t1", "job_a")
    wake_up = message.apply(pool)
    wake_up.accept()
    wake_up.terminate(signal.SIGTERM)
    wake_up.end("job_a taken away")
    hub.turn()
    assert [call[0] for call in message.calls] == ["accepted"]


def test_stop_drains_and_acknowledges(pool: TaskPool, worker: FakeWorker) -> None:
    message = Message("t1", "job_a")
    message.apply(pool)
    pool.stop()
    assert worker.calls == ["start", "drain"]
    assert message.calls[0][:2] == (0, "requeued")


def test_terminate_drains_as_well(pool: TaskPool, worker: FakeWorker) -> None:
    pool.terminate()
    assert worker.calls == ["start", "drain"]


@pytest.mark.parametrize("change", ["grow", "shrink"])
def test_slots_are_fixed(pool: TaskPool, change: str) -> None:
    with pytest.raises(NotImplementedError, match="BATON_MAX_SLOTS"):
        getattr(pool, change)(1)


def test_info_shows_the_worker(pool: TaskPool) -> None:
    assert pool.info == {
        "implementation": "workers.celery_app.pool:TaskPool",
        "max-concurrency": 4,
        "device": "cpu",
        "wake_ups": 0,
    }
