"""A follower joins what was read and what is heard, and keeps little for one who does not read."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from api.cursor import Cursor
from api.errors import ClientGone, StreamCorrupt
from api.follower import MAX_PAGE, MAX_UNREAD_BYTES, Follower
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


#: Three of them leave no room for another one.
PIECE = "x" * (MAX_UNREAD_BYTES * 3 // 10)


def long_entries(count: int) -> list[Entry]:
    """Entries of one long token each."""
    return [Entry(f"2-{at + 1}", (at + 1,), Output((output(0, at, PIECE),))) for at in range(count)]


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


def test_a_hole_after_an_id_is_to_be_read_by_position(follower: Follower) -> None:
    follower.join(ENTRIES[:3])
    assert follower.last_id == "2-1"
    follower.hold()
    assert not follower.join([ENTRIES[4]], by_id=True)
    assert follower.last_id is None
    follower.hold()
    assert follower.join(ENTRIES[2:])
    assert texts(follower) == "abc"


def test_what_a_reader_does_not_take_is_left_in_the_stream(follower: Follower) -> None:
    rooms: list[int] = []
    follower.on_room(lambda: rooms.append(1))
    follower.join(ENTRIES[:2])
    follower.take_ready()
    entries = long_entries(5)
    assert all(follower.offer(entry) for entry in entries)
    # As many as there is room for, then nothing, also not from where it stands.
    assert follower.is_behind and not follower.has_room and rooms == []
    assert (follower.last_id, follower.cursor.positions) == ("2-3", (3,))
    assert follower.offer(entries[3])
    assert len(texts(follower)) == 3 * len(PIECE)
    assert follower.has_room and rooms == [1]
    assert follower.offer(entries[3]) and texts(follower) == ""
    # What is read goes on from there.
    follower.hold()
    assert follower.join(entries[3:])
    assert not follower.is_behind
    assert len(texts(follower)) == 2 * len(PIECE) and rooms == [1, 1]


def test_of_a_page_is_taken_what_there_is_room_for(follower: Follower) -> None:
    entries = [*ENTRIES[:2], *long_entries(6)]
    follower.hold()
    assert follower.join(entries)
    assert (follower.is_behind, follower.last_id, follower.page_size) == (True, "2-3", 5)
    follower.take_ready()
    follower.hold()
    assert follower.join(entries[5:7], is_end=False)
    assert (follower.is_behind, follower.last_id, follower.page_size) == (True, "2-5", 10)
    assert follower.offer(entries[7])
    assert len(texts(follower)) == 2 * len(PIECE)


def test_after_a_page_without_news_there_is_room(follower: Follower) -> None:
    follower.join(ENTRIES)
    follower.take_ready()
    follower.hold()
    assert follower.join(ENTRIES[:3], is_end=False)
    assert follower.is_behind and follower.has_room and follower.last_id == "2-1"


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_piece_that_is_larger_than_the_room_is_taken_alone(follower: Follower, *, is_alone: bool) -> None:
    token = PromptToken(1, -1.0, 1, ((1, -1.0),) * 15)
    told = PromptLogprobs((token,) * (MAX_PROMPT_CANDIDATES // 16), {1: "a"})
    follower.join(ENTRIES[:2])
    if is_alone:
        follower.take_ready()
    first = dataclasses.replace(output(0, 0, "a"), prompt_logprobs=told)
    assert follower.offer(Entry("2-1", (1,), Output((first,))))
    assert follower.is_behind is not is_alone
    assert texts(follower) == ("a" if is_alone else "")
    follower.hold()
    assert follower.join([Entry("2-1", (1,), Output((first,)))])
    assert texts(follower) == ("" if is_alone else "a")


def test_logprobs_weigh_as_well() -> None:
    tokens = MAX_UNREAD_BYTES // (2 * 160)
    bare = output(0, 0, *[""] * (tokens // 2), first_id=0)
    told = dataclasses.replace(bare, logprobs=(logprobs(100),) * (tokens // 2))
    after = Entry("2-2", (tokens,), Output((output(0, tokens // 2, *[""] * (tokens // 2), first_id=0),)))
    for first, is_behind in ((bare, False), (told, True)):
        reader = Follower(JOB_ID, Cursor.start(JOB_ID, 1))
        reader.join(ENTRIES[:2])
        assert reader.offer(Entry("2-1", (tokens // 2,), Output((first,))))
        assert reader.offer(after)
        assert reader.is_behind is is_behind


def test_live_entries_that_wait_are_bounded_too(follower: Follower) -> None:
    follower.hold()
    outputs = [Entry(f"2-{at + 1}", (at + 1,), Output((output(0, at, "a"),))) for at in range(MAX_PAGE + 2)]
    assert all(follower.offer(entry) for entry in outputs)
    assert not follower.join(ENTRIES[:2])
    assert len(texts(follower)) == MAX_PAGE


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
