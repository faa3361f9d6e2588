"""A follower joins what was read and what is heard, and is dropped when it does not read."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from api.cursor import Cursor
from api.errors import ClientGone, SlowReader, StreamCorrupt
from api.follower import MAX_UNREAD_BYTES, Follower
from shared.events import ChoiceOutput, Entry, Output, Queued, Started
from shared.prompt_logprobs import MAX_PROMPT_CANDIDATES, PromptLogprobs, PromptToken
from tests.unit.api.streams import JOB_ID, logprobs, output

ENTRIES = [
    Entry("1-0", (0,), Queued()),
    Entry("2-0", (0,), Started("w")),
    Entry("2-1", (1,), Output((output(0, 0, "a"),))),
    Entry("2-2", (2,), Output((output(0, 1, "b"),))),
    Entry("2-3", (3,), Output((output(0, 2, "c"),))),
]


@pytest.fixture
def follower() -> Follower:
    return Follower(JOB_ID, Cursor.start(JOB_ID, 1))


def texts(follower: Follower) -> str:
    return "".join(one.event.text for one in follower.take_ready() if isinstance(one.event, ChoiceOutput))


async def test_what_is_offered_is_taken_in_one_piece(follower: Follower) -> None:
    assert all(follower.offer(entry) for entry in ENTRIES)
    assert len(await follower.take()) == 5
    assert follower.take_ready() == []


async def test_a_waiting_reader_is_woken(follower: Follower) -> None:
    taken = asyncio.create_task(follower.take())
    await asyncio.sleep(0)
    follower.offer(ENTRIES[0])
    assert [one.event for one in await taken] == [Queued()]


async def test_wake_lets_a_reader_go_with_nothing(follower: Follower) -> None:
    taken = asyncio.create_task(follower.take())
    await asyncio.sleep(0)
    follower.wake()
    assert await taken == []


def test_live_entries_wait_until_the_stream_was_read(follower: Follower) -> None:
    follower.hold()
    assert follower.is_reading
    assert follower.offer(ENTRIES[3]) and follower.offer(ENTRIES[4])
    assert follower.take_ready() == []
    assert follower.join(ENTRIES[:4])
    assert texts(follower) == "abc"


def test_a_gap_is_told_and_mended(follower: Follower) -> None:
    follower.join(ENTRIES[:3])
    assert not follower.offer(ENTRIES[4])
    follower.hold()
    assert follower.join(ENTRIES)
    assert texts(follower) == "abc"


def test_a_gap_behind_what_was_read_is_told(follower: Follower) -> None:
    follower.hold()
    follower.offer(ENTRIES[4])
    assert not follower.join(ENTRIES[:3])


def test_a_stream_with_a_hole_is_corrupt(follower: Follower) -> None:
    follower.join([ENTRIES[0], ENTRIES[3]])
    with pytest.raises(StreamCorrupt):
        follower.take_ready()


def test_a_reader_that_takes_nothing_is_dropped(follower: Follower) -> None:
    follower.join(ENTRIES[:2])
    piece = "x" * (MAX_UNREAD_BYTES // 4)
    for position in range(5):
        follower.offer(Entry(f"2-{position + 1}", (position + 1,), Output((output(0, position, piece),))))
    with pytest.raises(SlowReader):
        follower.take_ready()


def test_logprobs_weigh_as_well(follower: Follower) -> None:
    follower.join(ENTRIES[:2])
    tokens = MAX_UNREAD_BYTES // (3 * 64)
    follower.offer(Entry("2-1", (tokens,), Output((output(0, 0, *[""] * tokens, first_id=0),))))
    follower.take_ready()
    told = dataclasses.replace(output(0, tokens, *[""] * tokens), logprobs=(logprobs(100),) * tokens)
    follower.offer(Entry("2-2", (2 * tokens,), Output((told,))))
    with pytest.raises(SlowReader):
        follower.take_ready()


def test_a_long_past_is_no_slow_reading(follower: Follower) -> None:
    piece = "x" * MAX_UNREAD_BYTES
    follower.join([*ENTRIES[:2], Entry("2-1", (2,), Output((output(0, 0, piece, piece),)))])
    follower.offer(Entry("2-2", (3,), Output((output(0, 2, "c"),))))
    assert texts(follower) == piece + piece + "c"


def test_the_longest_prompts_logprobs_are_no_slow_reading(follower: Follower) -> None:
    token = PromptToken(1, -1.0, 1, ((1, -1.0),) * 15)
    told = PromptLogprobs((token,) * (MAX_PROMPT_CANDIDATES // 16), {1: "a"})
    follower.join(ENTRIES[:2])
    first = dataclasses.replace(output(0, 0, "a"), prompt_logprobs=told)
    follower.offer(Entry("2-1", (1,), Output((first,))))
    assert texts(follower) == "a"


def test_the_prompts_logprobs_weigh_as_well(follower: Follower) -> None:
    token = PromptToken(1, -1.0, 1, ((1, -1.0),) * 15)
    told = PromptLogprobs((token,) * (MAX_UNREAD_BYTES // (16 * 32)), {1: "a"})
    follower.join(ENTRIES[:2])
    first = dataclasses.replace(output(0, 0, "a"), prompt_logprobs=told)
    follower.offer(Entry("2-1", (1,), Output((first,))))
    with pytest.raises(SlowReader):
        follower.take_ready()


async def test_a_failure_is_raised_and_stays(follower: Follower) -> None:
    follower.fail(ClientGone())
    for _ in range(2):
        with pytest.raises(ClientGone):
            await follower.take()


def test_closers_are_called_once(follower: Follower) -> None:
    calls: list[int] = []
    follower.on_close(lambda: calls.append(1))
    follower.close()
    follower.close()
    assert calls == [1]
