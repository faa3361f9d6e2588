"""The relay hands each event on once, in order; what it did not hear it reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Literal, cast

import msgspec
import pytest

from api.errors import EventUnreadable, ShuttingDown, StreamCorrupt, StreamExpired
from api.streaming.cursor import Cursor
from api.streaming.pubsub_reader import Heard
from api.streaming.readership import Readership
from api.streaming.relay import RECORD_SILENCE_S, SILENCE_S, Relay
from api.streaming.subscription import MAX_PAGE, Subscription
from api.streaming.updates import Update
from shared.domain.events import (
    Completed,
    Entry,
    Output,
    Queued,
    Resumed,
    Started,
    encode_event,
    encode_positions,
)
from shared.domain.job import Job, NewJob
from shared.domain.output import ChoiceOutput, Finish
from shared.domain.request import GenerationRequest, TextPrompt
from shared.domain.wake_up import WakeUp
from shared.errors import DecodeError, RequestError, StoreUnavailable
from shared.store.job_reader import Page, UnreadableJob
from shared.store.job_store import JobStore, Joined, Reader
from tests.unit.api.streams import JOB_ID, output

ENTRIES = [
    Entry("1-0", (0,), Queued()),
    Entry("2-0", (0,), Started("w")),
    Entry("2-1", (1,), Output((output(0, 0, "a"),))),
    Entry("2-2", (2,), Output((output(0, 1, "b"),))),
    Entry("2-3", (3,), Output((output(0, 2, "c", finish="stop"),))),
    Entry("2-4", (3,), Completed()),
]


NUM_LONG = 10 * MAX_PAGE


def _key(stream_id: str) -> tuple[int, int]:
    fence, number = map(int, stream_id.split("-"))
    return fence, number


class FakeStore:
    """The store's reading side over plain lists."""

    def __init__(self) -> None:
        self.streams: dict[str, list[Entry]] = {JOB_ID: []}
        self.is_down = False
        self.joined: list[tuple[str, int]] = []
        #: Records as the relay finds them. A job without one runs.
        self.records: dict[str, Job | UnreadableJob | None] = {}
        self.num_reads, self.num_entries = 0, 0

    async def page(self, job_id: str, *, after: str | None, limit: int) -> Page:
        stream = await self._read(job_id)
        return self._page(
            job_id, [one for one in stream if after is None or _key(one.id) > _key(after)], limit
        )

    async def page_back_to(self, job_id: str, positions: tuple[int, ...], *, limit: int) -> Page:
        stream = await self._read(job_id)
        at_or_before = [
            number
            for number, one in enumerate(stream)
            if all(have >= end for have, end in zip(positions, one.end, strict=True))
        ]
        return self._page(job_id, stream[max(at_or_before, default=0) :], limit)

    async def _read(self, job_id: str) -> list[Entry]:
        self.num_reads += 1
        await self._answer()
        return list(self.streams.get(job_id, []))

    def _page(self, job_id: str, found: list[Entry], limit: int) -> Page:
        self.num_entries += len(found[:limit])
        stream = self.streams.get(job_id)
        return Page(found[:limit], stream[-1] if stream else None, len(found) <= limit)

    async def last_entries(self, job_ids: Sequence[str]) -> list[Entry | DecodeError | None]:
        await self._answer()
        streams = [self.streams.get(job_id) for job_id in job_ids]
        return [stream[-1] if stream else None for stream in streams]

    async def get_many(self, job_ids: Sequence[str]) -> list[Job | UnreadableJob | None]:
        await self._answer()
        return [self.records.get(job_id, _job("in_progress")) for job_id in job_ids]

    async def join(self, job_id: str, reader: Reader) -> Joined:
        await self._answer()
        self.joined.append((job_id, reader.seq))
        return Joined("joined" if job_id in self.streams else "gone")

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.is_down:
            raise StoreUnavailable("down")


def _job(status: str) -> Job:
    new = NewJob(JOB_ID, "m", "public", GenerationRequest((TextPrompt("x"),)))
    return replace(Job.accepted(new, 0), status=status)


class FakeSource:
    """Says what a test puts in."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[list[Heard] | Literal["connected"]] = asyncio.Queue()

    def say(self, *entries: Entry, job_id: str = JOB_ID) -> None:
        self.said.put_nowait([heard(entry, job_id) for entry in entries])

    async def messages(self) -> AsyncIterator[list[Heard] | Literal["connected"]]:
        while True:
            yield await self.said.get()


def heard(entry: Entry, job_id: str = JOB_ID) -> Heard:
    event = msgspec.Raw(encode_event(entry.event).encode())
    return Heard(job_id, entry.id, encode_positions(entry.end), entry.used.encode(), event)


class NoWakeUps:
    async def send(self, wake_ups: list[WakeUp]) -> None:
        raise AssertionError(wake_ups)


class System:
    def __init__(self) -> None:
        self.store, self.source = FakeStore(), FakeSource()
        self.now = 0.0
        self.readership = Readership(cast(JobStore, self.store), NoWakeUps(), clock=lambda: self.now)
        self.relay = Relay(cast(JobStore, self.store), self.source, self.readership, clock=lambda: self.now)

    def follow(self) -> Subscription:
        return self.relay.follow(JOB_ID, Cursor.start(JOB_ID, 1))


@asynccontextmanager
async def running() -> AsyncIterator[System]:
    system = System()
    tasks = [asyncio.create_task(system.relay.listen()), asyncio.create_task(system.relay.look_after())]
    yield system
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def text_of(subscription: Subscription, until: Callable[[str], bool]) -> str:
    text = ""
    async with asyncio.timeout(5):
        while not until(text):
            news = await subscription.take()
            text += "".join(one.event.text for one in news if isinstance(one.event, ChoiceOutput))
    return text


async def test_what_is_heard_is_handed_on() -> None:
    async with running() as system:
        first, second = system.follow(), system.follow()
        system.source.say(*ENTRIES)
        for subscription in (first, second):
            assert await text_of(subscription, lambda text: len(text) == 3) == "abc"
        assert system.store.num_reads == 0


async def test_jobs_that_nobody_follows_are_dropped() -> None:
    async with running() as system:
        subscription = system.follow()
        system.source.say(*ENTRIES, job_id="job_other")
        system.source.say(*ENTRIES[:3])
        assert await text_of(subscription, bool) == "a"


async def test_a_gap_is_read() -> None:
    async with running() as system:
        subscription = system.follow()
        system.store.streams[JOB_ID] = ENTRIES
        system.source.say(ENTRIES[0])
        system.source.say(ENTRIES[3])
        assert await text_of(subscription, lambda text: len(text) == 3) == "abc"


async def test_silence_is_looked_up() -> None:
    async with running() as system:
        subscription = system.follow()
        system.store.streams[JOB_ID] = ENTRIES
        system.now = SILENCE_S + 1
        assert await text_of(subscription, lambda text: len(text) == 3) == "abc"


async def test_everything_is_looked_up_after_a_reconnect() -> None:
    async with running() as system:
        subscription = system.follow()
        system.store.streams[JOB_ID] = ENTRIES
        system.source.said.put_nowait("connected")
        assert await text_of(subscription, lambda text: len(text) == 3) == "abc"


async def test_a_store_that_is_down_is_asked_again() -> None:
    async with running() as system:
        subscription = system.follow()
        system.store.streams[JOB_ID] = ENTRIES
        system.store.is_down = True
        system.source.say(ENTRIES[3])
        await asyncio.sleep(0.05)
        system.store.is_down = False
        assert await text_of(subscription, lambda text: len(text) == 3) == "abc"


async def test_a_stream_that_is_gone_ends_the_following() -> None:
    async with running() as system:
        subscription = system.follow()
        system.store.streams.clear()
        system.now = SILENCE_S + 1
        with pytest.raises(StreamExpired):
            async with asyncio.timeout(5):
                await subscription.take()


async def fails(subscription: Subscription) -> RequestError:
    """What ends the following."""
    with pytest.raises(RequestError) as error:
        async with asyncio.timeout(5):
            while True:
                await subscription.take()
    return error.value


@pytest.mark.parametrize("num_tokens", [3, NUM_LONG])
@pytest.mark.parametrize("position", [1, 7])
@pytest.mark.parametrize("is_there", [True, False], ids=["joins at the end", "joins before"])
async def test_a_cursor_ahead_of_a_job_ends_with_it(
    num_tokens: int, position: int, *, is_there: bool
) -> None:
    """Redis was set back: the reader has more than the job will ever have."""
    async with running() as system:
        stream = long_stream(num_tokens)
        cursor = Cursor.decode(f"1.AbCdEfGh.9.o.{num_tokens + position}b", JOB_ID, 1)
        system.store.streams[JOB_ID] = stream if is_there else stream[:2]
        subscription = system.relay.follow(JOB_ID, cursor)
        await system.relay.catch_up(subscription)
        for entry in stream[2:]:
            system.source.say(entry)
        system.store.streams[JOB_ID] = stream
        assert (await fails(subscription)).info.code == "invalid_event_id"


async def test_a_stream_without_its_middle_ends_with_an_error() -> None:
    async with running() as system:
        stream = long_stream(NUM_LONG)
        system.store.streams[JOB_ID] = stream[: 3 * MAX_PAGE] + stream[4 * MAX_PAGE :]
        subscription = system.follow()
        await system.relay.catch_up(subscription)
        assert isinstance(await fails(subscription), StreamCorrupt)


async def test_a_stream_without_the_finish_of_its_choice_ends_with_an_error() -> None:
    async with running() as system:
        stream = long_stream(NUM_LONG)
        system.store.streams[JOB_ID] = [*stream[:-2], stream[-1]]
        cursor = Cursor.decode(f"1.AbCdEfGh.2.o.{NUM_LONG}b", JOB_ID, 1)
        subscription = system.relay.follow(JOB_ID, cursor)
        await system.relay.catch_up(subscription)
        assert isinstance(await fails(subscription), StreamCorrupt)


async def test_an_entry_of_another_number_of_choices_ends_only_its_own_readers() -> None:
    async with running() as system:
        system.store.streams["job_other"] = ENTRIES[:2]
        heard, read = system.follow(), system.relay.follow("job_other", Cursor.start("job_other", 1))
        system.source.say(replace(ENTRIES[0], end=(0, 0)))
        assert isinstance(await fails(heard), EventUnreadable)
        system.store.streams["job_other"] = [*ENTRIES[:2], Entry("2-1", (1,), Output((output(1, 0, "a"),)))]
        system.now = SILENCE_S + 1
        assert isinstance(await fails(read), EventUnreadable)
        # The relay goes on.
        after = system.follow()
        system.source.say(*ENTRIES)
        assert await text_of(after, lambda text: len(text) == 3) == "abc"


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (None, StreamExpired),
        (UnreadableJob(JOB_ID), EventUnreadable),
        (_job("hibernated"), EventUnreadable),
        (_job("completed"), StreamCorrupt),
    ],
)
async def test_a_job_that_no_longer_runs_ends_its_silent_stream(
    record: Job | UnreadableJob | None, kind: type[RequestError]
) -> None:
    async with running() as system:
        system.store.streams[JOB_ID] = ENTRIES[:3]
        subscription = system.follow()
        await system.relay.catch_up(subscription)
        system.store.records[JOB_ID] = record
        system.now = RECORD_SILENCE_S + 1
        assert isinstance(await fails(subscription), kind)


async def test_a_job_that_ended_unheard_ends_its_stream() -> None:
    async with running() as system:
        system.store.streams[JOB_ID] = ENTRIES
        subscription = system.follow()
        system.store.records[JOB_ID] = _job("completed")
        system.now = RECORD_SILENCE_S + 1
        assert await text_of(subscription, lambda text: len(text) == 3) == "abc"


async def test_catching_up_joins_what_is_heard_meanwhile() -> None:
    async with running() as system:
        subscription = system.follow()
        system.store.streams[JOB_ID] = ENTRIES[:3]
        reading = asyncio.create_task(system.relay.catch_up(subscription))
        await asyncio.sleep(0)
        system.source.say(*ENTRIES[2:])
        assert await reading == ENTRIES[2]
        assert await text_of(subscription, lambda text: len(text) == 3) == "abc"
        assert system.store.num_reads == 1


async def test_a_job_is_joined_before_its_stream_is_read() -> None:
    async with running() as system:
        first, second = system.follow(), system.follow()
        system.store.streams[JOB_ID] = ENTRIES[:3]
        for subscription in (first, second, first):
            await system.relay.catch_up(subscription)
        assert system.store.joined == [(JOB_ID, 1), (JOB_ID, 1)]


async def test_a_job_that_is_gone_cannot_be_joined() -> None:
    async with running() as system:
        subscription = system.follow()
        system.store.streams.clear()
        with pytest.raises(StreamExpired):
            await system.relay.catch_up(subscription)


async def test_who_leaves_is_forgotten() -> None:
    system = System()
    subscription = system.follow()
    assert system.relay.num_subscriptions == 1
    subscription.close()
    assert system.relay.num_subscriptions == 0


async def test_stopping_ends_all_following() -> None:
    system = System()
    subscription = system.follow()
    system.relay.stop()
    with pytest.raises(ShuttingDown):
        await subscription.take()
    with pytest.raises(ShuttingDown):
        system.follow()


UNKNOWN_OP = (
    b'{"type":"output","choices":[[0,0,[1],[""],null,null,[0,null,0,0,0],{"0":[["sing","la"]]},null]]}'
)


async def test_output_that_cannot_be_read_ends_the_stream_and_asks_to_come_back() -> None:
    async with running() as system:
        subscription = system.follow()
        system.source.say(*ENTRIES[:2])
        system.source.said.put_nowait([Heard(JOB_ID, "2-1", "1", "", msgspec.Raw(UNKNOWN_OP))])
        with pytest.raises(EventUnreadable):
            async with asyncio.timeout(5):
                while True:
                    await subscription.take()


async def test_an_event_of_a_newer_version_is_skipped() -> None:
    async with running() as system:
        subscription = system.follow()
        system.source.say(*ENTRIES[:3])
        system.source.said.put_nowait([Heard(JOB_ID, "3-0", "1", "", msgspec.Raw(b'{"type":"hibernated"}'))])
        system.source.say(
            Entry("4-0", (1,), Resumed("w", 2)), Entry("4-1", (2,), Output((output(0, 1, "b"),)))
        )
        assert await text_of(subscription, lambda text: len(text) == 2) == "ab"
        assert system.store.num_reads == 0


async def test_a_job_that_is_not_written_yet_is_not_looked_for() -> None:
    async with running() as system:
        subscription = system.follow()
        with system.relay.creating(subscription):
            system.store.streams.clear()
            system.source.said.put_nowait("connected")
            system.source.say(*ENTRIES)
            await asyncio.sleep(0.05)
            system.store.streams[JOB_ID] = ENTRIES
        assert await text_of(subscription, lambda text: len(text) == 3) == "abc"


def long_stream(num_tokens: int, *, first_fence: int = 2) -> list[Entry]:
    """A token an entry, and the end."""
    tokens = [
        Entry(f"{first_fence}-{at + 1}", (at + 1,), Output((output(0, at, f"{at} "),)))
        for at in range(num_tokens)
    ]
    finish = Entry(
        f"{first_fence}-{num_tokens + 1}", (num_tokens,), Output((output(0, num_tokens, finish="stop"),))
    )
    over = Entry(f"{first_fence}-{num_tokens + 2}", (num_tokens,), Completed())
    return [Entry("1-0", (0,), Queued()), Entry("2-0", (0,), Started("w")), *tokens, finish, over]


def text_of_long(num_tokens: int) -> str:
    return "".join(f"{at} " for at in range(num_tokens))


async def test_a_late_reader_reads_a_long_stream_once_page_by_page() -> None:
    async with running() as system:
        subscription = system.follow()
        stream = system.store.streams[JOB_ID] = long_stream(NUM_LONG)
        assert await system.relay.catch_up(subscription) == stream[-1]
        await asyncio.sleep(0.05)
        # Nothing is read before it is wanted.
        assert system.store.num_reads == 1 and subscription.is_behind
        news: list[Update] = []
        async with asyncio.timeout(5):
            while not (news and news[-1].is_end):
                news += await subscription.take()
        assert "".join(one.event.text for one in news if isinstance(one.event, ChoiceOutput)) == (
            text_of_long(NUM_LONG)
        )
        assert [one.is_end for one in news].count(True) == 1 and not subscription.is_behind
        assert system.store.num_entries <= len(stream) + 2 * MAX_PAGE


async def test_a_reader_who_was_slow_gets_it_all() -> None:
    async with running() as system:
        slow, fast = system.follow(), system.follow()
        stream = long_stream(NUM_LONG)
        fast_text = ""
        for entry in stream:
            system.store.streams[JOB_ID].append(entry)
            system.source.say(entry)
            while entry.is_terminal is False and (news := fast.take_ready()):
                fast_text += "".join(one.event.text for one in news if isinstance(one.event, ChoiceOutput))
            await asyncio.sleep(0)
        whole = text_of_long(NUM_LONG)
        fast_text += await text_of(fast, lambda text: fast_text + text == whole)
        assert fast_text == whole and not fast.is_behind
        # Nobody read the stream for the one who kept up, nor for the other one while he took nothing.
        assert slow.is_behind and system.store.num_reads == 0
        assert await text_of(slow, lambda text: text == whole) == whole


async def test_a_reader_who_comes_back_in_the_middle_reads_on_from_there() -> None:
    async with running() as system:
        stream = system.store.streams[JOB_ID] = long_stream(NUM_LONG)
        cursor = Cursor.decode(f"1.AbCdEfGh.2.o.{MAX_PAGE}b", JOB_ID, 1)
        subscription = system.relay.follow(JOB_ID, cursor)
        assert await system.relay.catch_up(subscription) == stream[-1]
        rest = text_of_long(NUM_LONG).removeprefix(text_of_long(MAX_PAGE))
        assert await text_of(subscription, lambda text: text == rest) == rest


@pytest.mark.parametrize("kept", [0, 1, 3 * MAX_PAGE])
async def test_a_stream_that_was_set_back_and_went_on_is_joined_by_position(kept: int) -> None:
    """Redis lost the end: the ids that were read stand for something else, or for nothing."""
    async with running() as system:
        subscription = system.follow()
        stream = long_stream(NUM_LONG)
        system.store.streams[JOB_ID] = stream[: 4 * MAX_PAGE]
        await system.relay.catch_up(subscription)
        text = await text_of(subscription, lambda text: text.count(" ") == 4 * MAX_PAGE - 2)
        read = stream[2 : 2 + kept]
        # The same worker goes on from there, with more in an entry.
        coalesced = [
            Entry(
                f"2-{kept + number + 1}",
                (min(at + 3, NUM_LONG),),
                Output((output(0, at, *[f"{each} " for each in range(at, min(at + 3, NUM_LONG))]),)),
            )
            for number, at in enumerate(range(kept, NUM_LONG, 3))
        ]
        system.store.streams[JOB_ID] = [*stream[:2], *read, *coalesced]
        system.now = SILENCE_S + 1
        whole = text_of_long(NUM_LONG)
        text += await text_of(subscription, lambda more: text + more == whole)
        assert text == whole


async def test_who_is_behind_does_not_keep_others_waiting() -> None:
    async with running() as system:
        system.store.streams[JOB_ID] = long_stream(NUM_LONG)
        system.store.streams["job_other"] = ENTRIES
        subscription = system.follow()
        await system.relay.catch_up(subscription)
        other = system.relay.follow("job_other", Cursor.start("job_other", 1))
        system.source.say(ENTRIES[3], job_id="job_other")
        system.now = 6
        reading = asyncio.create_task(text_of(subscription, lambda text: text == text_of_long(NUM_LONG)))
        assert await text_of(other, lambda text: len(text) == 3) == "abc"
        await reading


async def test_who_left_is_not_read_for() -> None:
    async with running() as system:
        subscription = system.follow()
        system.store.streams[JOB_ID] = long_stream(NUM_LONG)
        await system.relay.catch_up(subscription)
        subscription.close()
        subscription.take_ready()
        await asyncio.sleep(0.05)
        assert system.store.num_reads == 1


async def test_a_finish_that_was_not_heard_is_read_though_other_choices_went_on() -> None:
    entries = [
        Entry("1-0", (0, 0), Queued()),
        Entry("2-0", (0, 0), Started("w")),
        Entry("2-1", (1, 1), Output((output(0, 0, "a"), output(1, 0, "x")))),
        Entry("2-2", (1, 1), Output((output(0, 1, finish="stop"),))),
        Entry("2-3", (1, 2), Output((output(1, 1, "y"),))),
        Entry("2-4", (1, 3), Output((output(1, 2, "z", finish="stop"),))),
        Entry("2-5", (1, 3), Completed()),
    ]
    async with running() as system:
        subscription = system.relay.follow(JOB_ID, Cursor.start(JOB_ID, 2))
        system.store.streams[JOB_ID] = entries
        system.source.say(*entries[:3], entries[4])
        assert await text_of(subscription, lambda text: "y" in text) == "axy"
        system.now = SILENCE_S + 1
        news: list[Update] = []
        async with asyncio.timeout(5):
            while not (news and news[-1].is_end):
                news += await subscription.take()
    told = [one.event for one in news if isinstance(one.event, ChoiceOutput)]
    assert {(one.index, one.text, one.finish) for one in told} == {
        (0, "", Finish("stop")),
        (1, "z", Finish("stop")),
    }
