"""Followers of waiting jobs are told their places: when they change, and only while they wait."""

from __future__ import annotations

from api.cursor import Cursor
from api.follower import Follower
from api.place import Place
from api.queue_watch import QueueWatch
from shared.events import Entry, Queued, Requeued, Started
from tests.unit.api.streams import JOB_ID
from tests.unit.api.test_forecast import Setting

QUEUED = Entry("1-0", (0,), Queued())
STARTED = Entry("2-0", (0,), Started("w"))
REQUEUED = Entry("3-0", (0,), Requeued("drain"))


class Watched:
    """A follower of the job that stands second in the queue, and what it was told."""

    def __init__(self, *entries: Entry) -> None:
        self.setting = Setting()
        self.queue = self.setting.reader.queues["m"] = ["a", JOB_ID]
        self.watch = QueueWatch(self.setting.forecast)
        self.follower = Follower(JOB_ID, Cursor.start(JOB_ID, 1))
        self.follower.join(entries)
        self.follower.take_ready()
        self.watch.add(self.follower, "m")

    async def told(self) -> list[object]:
        await self.watch.tick()
        return [one.event for one in self.follower.take_ready()]


async def test_a_place_is_told_when_it_changes() -> None:
    watched = Watched(QUEUED)
    assert await watched.told() == [Place(1, 2)]
    assert await watched.told() == []
    watched.queue.remove("a")
    assert await watched.told() == [Place(0, 1)]


async def test_it_moves_no_cursor() -> None:
    watched = Watched(QUEUED)
    before = watched.follower.cursor
    await watched.watch.tick()
    assert [one.cursor for one in watched.follower.take_ready()] == [before]
    assert watched.follower.cursor == before


async def test_who_does_not_wait_costs_nothing() -> None:
    watched = Watched(QUEUED, STARTED)
    assert await watched.told() == []
    assert watched.setting.reader.num_rank_calls == 0


async def test_one_that_waits_again_is_told_again() -> None:
    watched = Watched(QUEUED, STARTED, REQUEUED)
    assert await watched.told() == [Place(1, 2)]


async def test_only_the_newest_place_is_kept_for_a_slow_reader() -> None:
    watched = Watched(QUEUED)
    await watched.watch.tick()
    watched.queue.remove("a")
    assert await watched.told() == [Place(0, 1)]


async def test_one_that_left_is_forgotten() -> None:
    watched = Watched(QUEUED)
    watched.follower.close()
    assert await watched.told() == []
    assert watched.setting.reader.num_rank_calls == 0
