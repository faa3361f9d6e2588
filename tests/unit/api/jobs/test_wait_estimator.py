"""A queue position is a rank and an estimate; throughput and workers are looked up once a second at most."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from api.jobs.wait_estimator import WaitEstimator
from api.streaming.queue_position import QueuePosition
from shared.domain.lease import WorkerState
from shared.store.job_reader import JobReader
from shared.store.throughput import Throughput


def worker(*, slots: int, jobs: int, model: str = "m", is_draining: bool = False) -> WorkerState:
    return WorkerState(
        "w.a", "w", model, "host", 1, "cpu", slots, True, 1, 0, 0, jobs, is_draining=is_draining
    )


class FakeReader:
    """Queues as lists of job ids."""

    def __init__(self) -> None:
        self.queues: dict[str, list[str]] = {"m": ["a", "b", "c"]}
        self.living = [worker(slots=2, jobs=2)]
        self.paces = {"m": Throughput(10, 20.0)}
        self.num_looks = 0
        self.num_rank_calls = 0

    async def queue_positions(self, jobs: Iterable[tuple[str, str]]) -> list[int | None]:
        self.num_rank_calls += 1
        queues = [(self.queues.get(model, []), job_id) for model, job_id in jobs]
        return [queue.index(job_id) if job_id in queue else None for queue, job_id in queues]

    async def workers(self) -> list[WorkerState]:
        self.num_looks += 1
        return self.living

    async def pace(self, model: str) -> Throughput:
        return self.paces.get(model, Throughput())


class Setting:
    def __init__(self) -> None:
        self.now = 0.0
        self.reader = FakeReader()
        self.wait_estimator = WaitEstimator(cast(JobReader, self.reader), clock=lambda: self.now)


async def test_places_in_the_order_that_was_asked() -> None:
    setting = Setting()
    jobs = [("m", "c"), ("m", "gone"), ("m", "a")]
    # Two slots that each take two seconds for a job: one job a second.
    assert await setting.wait_estimator.queue_positions(jobs) == [
        QueuePosition(2, 3),
        None,
        QueuePosition(0, 1),
    ]
    assert await setting.wait_estimator.queue_positions([]) == []


async def test_many_questions_a_second_are_one_look() -> None:
    setting = Setting()
    for _ in range(5):
        await setting.wait_estimator.queue_positions([("m", "a"), ("m", "b")])
    assert (setting.reader.num_looks, setting.reader.num_rank_calls) == (1, 5)
    setting.now = 1.5
    await setting.wait_estimator.queue_positions([("m", "a")])
    assert setting.reader.num_looks == 2


async def test_who_does_not_wait_costs_no_look() -> None:
    setting = Setting()
    assert await setting.wait_estimator.queue_positions([("m", "gone")]) == [None]
    assert setting.reader.num_looks == 0


async def test_free_slots_shorten_the_wait() -> None:
    setting = Setting()
    setting.reader.living = [worker(slots=4, jobs=2)]
    found = await setting.wait_estimator.queue_positions([("m", "a"), ("m", "c")])
    assert found == [QueuePosition(0, 0), QueuePosition(2, 1)]


async def test_without_workers_or_measure_nobody_knows() -> None:
    for living in ([], [worker(slots=2, jobs=0, model="other")], [worker(slots=2, jobs=0, is_draining=True)]):
        setting = Setting()
        setting.reader.living = living
        assert await setting.wait_estimator.queue_positions([("m", "a")]) == [QueuePosition(0, None)]
    setting = Setting()
    setting.reader.paces = {}
    assert await setting.wait_estimator.queue_positions([("m", "a")]) == [QueuePosition(0, None)]
