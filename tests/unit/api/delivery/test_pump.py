"""The pump writes updates to any sink until the job's end, and keeps nothing of what it has encoded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from api.delivery.pump import pump
from api.dialects.base import Block
from api.dialects.openai_chat.encoder import ChatEncoder
from api.errors import ShuttingDown
from api.streaming.cursor import Cursor
from api.streaming.subscription import Subscription
from api.streaming.updates import Update
from shared.domain.events import Completed, Entry, Output, Queued, Started
from shared.store.job_store import Reader
from tests.unit.api.streams import JOB_ID, job_info, output, read_all

START = Cursor.start(JOB_ID, 1)
BEGIN = [Entry("1-0", (0,), Queued()), Entry("2-0", (0,), Started("w"))]
OUTPUT = Entry("2-1", (1,), Output((output(0, 0, "a", finish="stop"),)))
END = Entry("2-2", (1,), Completed())


class ListSink:
    """Remembers what was written."""

    def __init__(self) -> None:
        self.writes: list[tuple[int, bool]] = []
        self.may_write = asyncio.Event()
        self.may_write.set()

    async def write(self, blocks: Sequence[Block], *, is_last: bool) -> None:
        self.writes.append((len(blocks), is_last))
        await self.may_write.wait()


class Pumping:
    """A pump at work."""

    def __init__(self, *, first: list[Update] | None = None) -> None:
        self.sink, self.num_outputs = ListSink(), 0
        self.subscription = Subscription(JOB_ID, START, Reader("r", 1))
        self.first = first or []
        encoder = ChatEncoder(job_info(), START, usage_in="nothing")
        self.task = asyncio.create_task(pump(self.subscription, encoder, self.sink, self.first, self._count))

    def _count(self) -> None:
        self.num_outputs += 1

    async def offer(self, *entries: Entry) -> None:
        for entry in entries:
            assert self.subscription.offer(entry)
        await asyncio.sleep(0.001)


async def test_it_ends_with_the_job() -> None:
    pumping = Pumping()
    await pumping.offer(*BEGIN)
    await pumping.offer(OUTPUT)
    await pumping.offer(END)
    await pumping.task
    # Life-cycle events show nothing in a chat.
    assert [write for write in pumping.sink.writes if write[0]] == [(1, False), (1, True)]
    assert pumping.num_outputs == 1


async def test_what_is_pending_is_written_at_once() -> None:
    pumping = Pumping(first=read_all([*BEGIN, OUTPUT, END], START))
    await pumping.task
    assert pumping.sink.writes == [(2, True)] and pumping.first == []


async def test_a_slow_sink_holds_nothing_but_its_own_write() -> None:
    pumping = Pumping(first=read_all([*BEGIN, OUTPUT], START))
    pumping.sink.may_write.clear()
    await asyncio.sleep(0.001)
    assert (pumping.sink.writes, pumping.first, pumping.num_outputs) == ([(1, False)], [], 0)
    pumping.sink.may_write.set()
    await asyncio.sleep(0.001)
    assert pumping.num_outputs == 1
    pumping.task.cancel()


async def test_a_sink_is_called_when_the_subscription_is_woken() -> None:
    pumping = Pumping()
    await asyncio.sleep(0.001)
    before = len(pumping.sink.writes)
    pumping.subscription.wake()
    await asyncio.sleep(0.001)
    assert len(pumping.sink.writes) == before + 1 and pumping.sink.writes[-1] == (0, False)
    pumping.task.cancel()


async def test_it_raises_what_ended_the_subscription() -> None:
    pumping = Pumping()
    pumping.subscription.fail(ShuttingDown())
    with pytest.raises(ShuttingDown):
        await pumping.task
