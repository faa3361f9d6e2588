"""A request waits for what it needs, and not longer than it may."""

from __future__ import annotations

import asyncio

from api.streaming.cursor import Cursor
from api.streaming.subscription import Subscription
from api.streaming.wait import until_any, until_end_within, until_output, until_page
from shared.domain.events import Completed, Entry, Output, Queued, Started
from shared.store.job_store import Reader
from tests.unit.api.streams import JOB_ID, output

BEGIN = [Entry("1-0", (0,), Queued()), Entry("2-0", (0,), Started("w"))]
OUTPUT = Entry("2-1", (1,), Output((output(0, 0, "a", finish="stop"),)))
END = Entry("2-2", (1,), Completed())


def subscription() -> Subscription:
    return Subscription(JOB_ID, Cursor.start(JOB_ID, 1), Reader("replica", 1))


async def test_output_is_waited_for() -> None:
    reader = subscription()
    waiting = asyncio.create_task(until_output(reader, 10))
    for entry in (*BEGIN, OUTPUT):
        await asyncio.sleep(0)
        reader.offer(entry)
    assert len(await waiting) == 3


async def test_what_came_in_time_is_answered() -> None:
    reader = subscription()
    reader.join(BEGIN)
    assert len(await until_output(reader, 0.01)) == 2
    assert await until_output(reader, 0.01) == []


async def test_what_is_there_needs_no_wait() -> None:
    reader = subscription()
    reader.join([*BEGIN, OUTPUT])
    assert len(await until_any(reader, 0)) == 3
    assert await until_any(reader, 0) == []


async def test_the_end_is_waited_for() -> None:
    reader = subscription()
    reader.join(BEGIN)
    await until_end_within(reader, 0.01)
    waiting = asyncio.create_task(until_end_within(reader, 10))
    for entry in (OUTPUT, END):
        await asyncio.sleep(0)
        assert not waiting.done()
        reader.offer(entry)
    await waiting


async def test_a_page_is_as_long_as_was_asked_for_if_there_is_so_much() -> None:
    outputs = [Entry(f"2-{at + 1}", (at + 1,), Output((output(0, at, "a"),))) for at in range(6)]
    reader = subscription()
    reader.join([*BEGIN, *outputs[:2]], is_end=False)
    pages = [(outputs[2:4], False), (outputs[4:], True)]

    def advance() -> None:
        entries, is_end = pages.pop(0)
        asyncio.get_running_loop().call_soon(lambda: reader.join(entries, is_end=is_end))

    reader.on_room(advance)
    assert len(await until_page(reader, 0, 5)) == 5
    reader = subscription()
    reader.on_room(advance)
    pages = [(outputs[2:4], False), (outputs[4:], True)]
    reader.join([*BEGIN, *outputs[:2]], is_end=False)
    assert len(await until_page(reader, 0, 100)) == 8
    assert await until_page(reader, 0.01, 100) == []
