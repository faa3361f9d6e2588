"""Subscriptions of waiting jobs are told their queue positions: when they change, and only while the jobs wait."""

from __future__ import annotations

from api.jobs.position_feed import PositionFeed
from api.streaming.cursor import Cursor
from api.streaming.queue_position import QueuePosition
from api.streaming.subscription import Subscription
from shared.domain.events import Entry, Queued, Requeued, Started
from shared.store.job_store import Reader
from tests.unit.api.jobs.test_wait_estimator import Setting
from tests.unit.api.streams import JOB_ID

QUEUED = Entry("1-0", (0,), Queued())
STARTED = Entry("2-0", (0,), Started("w"))
REQUEUED = Entry("3-0", (0,), Requeued("drain"))


class Watched:
    """A subscription of the job that stands second in the queue, and what it was told."""

    def __init__(self, *entries: Entry) -> None:
        self.setting = Setting()
        self.queue = self.setting.reader.queues["m"] = ["a", JOB_ID]
        self.watch = PositionFeed(self.setting.wait_estimator)
        self.subscription = Subscription(JOB_ID, Cursor.start(JOB_ID, 1), Reader("r", 1))
        self.subscription.join(entries)
        self.subscription.take_ready()
        self.watch.add(self.subscription, "m")

    async def told(self) -> list[object]:
        await self.watch.tick()
        return [one.event for one in self.subscription.take_ready()]


async def test_a_position_is_told_when_it_changes() -> None:
    watched = Watched(QUEUED)
    assert await watched.told() == [QueuePosition(1, 2)]
    assert await watched.told() == []
    watched.queue.remove("a")
    assert await watched.told() == [QueuePosition(0, 1)]


async def test_it_moves_no_cursor() -> None:
    watched = Watched(QUEUED)
    before = watched.subscription.cursor
    await watched.watch.tick()
    assert [one.cursor for one in watched.subscription.take_ready()] == [before]
    assert watched.subscription.cursor == before


async def test_who_does_not_wait_costs_nothing() -> None:
    watched = Watched(QUEUED, STARTED)
    assert await watched.told() == []
    assert watched.setting.reader.num_rank_calls == 0


async def test_one_that_waits_again_is_told_again() -> None:
    watched = Watched(QUEUED, STARTED, REQUEUED)
    assert await watched.told() == [QueuePosition(1, 2)]


async def test_only_the_newest_position_is_kept_for_a_slow_reader() -> None:
    watched = Watched(QUEUED)
    await watched.watch.tick()
    watched.queue.remove("a")
    assert await watched.told() == [QueuePosition(0, 1)]


async def test_one_that_left_is_forgotten() -> None:
    watched = Watched(QUEUED)
    watched.subscription.close()
    assert await watched.told() == []
    assert watched.setting.reader.num_rank_calls == 0
