"""A subscription joins what was read and what is heard, and keeps little for one who does not read."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from api.errors import ClientGone, StreamCorrupt
from api.streaming.cursor import Cursor
from api.streaming.subscription import MAX_PAGE, MAX_UNREAD_BYTES, Subscription
from shared.domain.events import Entry, Output, Queued, Requeued, Started, Unknown
from shared.domain.output import ChoiceOutput
from shared.domain.prompt_logprobs import MAX_PROMPT_CANDIDATES, PromptLogprobs, PromptToken
from shared.store.job_store import Reader
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
def subscription() -> Subscription:
    return Subscription(JOB_ID, Cursor.start(JOB_ID, 1), Reader("r", 1))


def texts(subscription: Subscription) -> str:
    return "".join(one.event.text for one in subscription.take_ready() if isinstance(one.event, ChoiceOutput))


async def test_what_is_offered_is_taken_in_one_piece(subscription: Subscription) -> None:
    assert all(subscription.offer(entry) for entry in ENTRIES)
    assert len(await subscription.take()) == 5
    assert subscription.take_ready() == []


async def test_a_waiting_reader_is_woken(subscription: Subscription) -> None:
    taken = asyncio.create_task(subscription.take())
    await asyncio.sleep(0)
    subscription.offer(ENTRIES[0])
    assert [one.event for one in await taken] == [Queued()]


async def test_wake_lets_a_reader_go_with_nothing(subscription: Subscription) -> None:
    taken = asyncio.create_task(subscription.take())
    await asyncio.sleep(0)
    subscription.wake()
    assert await taken == []


def test_live_entries_wait_until_the_stream_was_read(subscription: Subscription) -> None:
    subscription.hold()
    assert subscription.is_reading
    assert subscription.offer(ENTRIES[3]) and subscription.offer(ENTRIES[4])
    assert subscription.take_ready() == []
    assert subscription.join(ENTRIES[:4])
    assert texts(subscription) == "abc"


def test_a_gap_is_told_and_mended(subscription: Subscription) -> None:
    subscription.join(ENTRIES[:3])
    assert not subscription.offer(ENTRIES[4])
    subscription.hold()
    assert subscription.join(ENTRIES)
    assert texts(subscription) == "abc"


def test_a_gap_behind_what_was_read_is_told(subscription: Subscription) -> None:
    subscription.hold()
    subscription.offer(ENTRIES[4])
    assert not subscription.join(ENTRIES[:3])


def test_a_stream_with_a_hole_is_corrupt(subscription: Subscription) -> None:
    subscription.join([ENTRIES[0], ENTRIES[3]])
    with pytest.raises(StreamCorrupt):
        subscription.take_ready()


def test_a_hole_after_an_id_is_to_be_read_by_position(subscription: Subscription) -> None:
    subscription.join(ENTRIES[:3])
    assert subscription.last_id == "2-1"
    subscription.hold()
    assert not subscription.join([ENTRIES[4]], by_id=True)
    assert subscription.last_id is None
    subscription.hold()
    assert subscription.join(ENTRIES[2:])
    assert texts(subscription) == "abc"


def test_what_a_reader_does_not_take_is_left_in_the_stream(subscription: Subscription) -> None:
    rooms: list[int] = []
    subscription.on_room(lambda: rooms.append(1))
    subscription.join(ENTRIES[:2])
    subscription.take_ready()
    entries = long_entries(5)
    assert all(subscription.offer(entry) for entry in entries)
    # As many as there is room for, then nothing, also not from where it stands.
    assert subscription.is_behind and not subscription.has_room and rooms == []
    assert (subscription.last_id, subscription.cursor.positions) == ("2-3", (3,))
    assert subscription.offer(entries[3])
    assert len(texts(subscription)) == 3 * len(PIECE)
    assert subscription.has_room and rooms == [1]
    assert subscription.offer(entries[3]) and texts(subscription) == ""
    # What is read goes on from there.
    subscription.hold()
    assert subscription.join(entries[3:])
    assert not subscription.is_behind
    assert len(texts(subscription)) == 2 * len(PIECE) and rooms == [1, 1]


def test_of_a_page_is_taken_what_there_is_room_for(subscription: Subscription) -> None:
    entries = [*ENTRIES[:2], *long_entries(6)]
    subscription.hold()
    assert subscription.join(entries)
    assert (subscription.is_behind, subscription.last_id, subscription.page_size) == (True, "2-3", 5)
    subscription.take_ready()
    subscription.hold()
    assert subscription.join(entries[5:7], is_end=False)
    assert (subscription.is_behind, subscription.last_id, subscription.page_size) == (True, "2-5", 10)
    assert subscription.offer(entries[7])
    assert len(texts(subscription)) == 2 * len(PIECE)


def test_after_a_page_without_news_there_is_room(subscription: Subscription) -> None:
    subscription.join(ENTRIES)
    subscription.take_ready()
    subscription.hold()
    assert subscription.join(ENTRIES[:3], is_end=False)
    assert subscription.is_behind and subscription.has_room and subscription.last_id == "2-1"


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_piece_that_is_larger_than_the_room_is_taken_alone(
    subscription: Subscription, *, is_alone: bool
) -> None:
    token = PromptToken(1, -1.0, 1, ((1, -1.0),) * 15)
    told = PromptLogprobs((token,) * (MAX_PROMPT_CANDIDATES // 16), {1: "a"})
    subscription.join(ENTRIES[:2])
    if is_alone:
        subscription.take_ready()
    first = replace(output(0, 0, "a"), prompt_logprobs=told)
    assert subscription.offer(Entry("2-1", (1,), Output((first,))))
    assert subscription.is_behind is not is_alone
    assert texts(subscription) == ("a" if is_alone else "")
    subscription.hold()
    assert subscription.join([Entry("2-1", (1,), Output((first,)))])
    assert texts(subscription) == ("" if is_alone else "a")


def test_logprobs_weigh_as_well() -> None:
    tokens = MAX_UNREAD_BYTES // (2 * 160)
    bare = output(0, 0, *[""] * (tokens // 2), first_id=0)
    told = replace(bare, logprobs=(logprobs(100),) * (tokens // 2))
    after = Entry("2-2", (tokens,), Output((output(0, tokens // 2, *[""] * (tokens // 2), first_id=0),)))
    for first, is_behind in ((bare, False), (told, True)):
        reader = Subscription(JOB_ID, Cursor.start(JOB_ID, 1), Reader("r", 1))
        reader.join(ENTRIES[:2])
        assert reader.offer(Entry("2-1", (tokens // 2,), Output((first,))))
        assert reader.offer(after)
        assert reader.is_behind is is_behind


def test_live_entries_that_wait_are_bounded_too(subscription: Subscription) -> None:
    subscription.hold()
    outputs = [Entry(f"2-{at + 1}", (at + 1,), Output((output(0, at, "a"),))) for at in range(MAX_PAGE + 2)]
    assert all(subscription.offer(entry) for entry in outputs)
    assert not subscription.join(ENTRIES[:2])
    assert len(texts(subscription)) == MAX_PAGE


async def test_a_failure_is_raised_and_stays(subscription: Subscription) -> None:
    subscription.fail(ClientGone())
    for _ in range(2):
        with pytest.raises(ClientGone):
            await subscription.take()


def test_closers_are_called_once(subscription: Subscription) -> None:
    calls: list[int] = []
    subscription.on_close(lambda: calls.append(1))
    subscription.close()
    subscription.close()
    assert calls == [1]


def test_an_event_of_a_newer_version_is_passed_without_a_gap(subscription: Subscription) -> None:
    subscription.join(ENTRIES[:3])
    assert subscription.offer(Entry("3-0", (1,), Unknown("hibernated")))
    assert subscription.offer(Entry("4-0", (1,), Requeued("drain")))
    assert [type(one.event).__name__ for one in subscription.take_ready()][-2:] == [
        "ChoiceOutput",
        "Requeued",
    ]
    assert subscription.cursor.marker == 4


def test_how_a_reader_left_is_known(subscription: Subscription) -> None:
    other = Subscription(JOB_ID, Cursor.start(JOB_ID, 1), Reader("r", 1))
    subscription.close("polled")
    other.fail(ClientGone())
    other.close("polled")
    assert (subscription.departure, other.departure) == ("polled", "left")
