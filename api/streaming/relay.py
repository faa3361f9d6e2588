"""Relay: brings published events to all subscriptions of this process, in order, without a gap.

The channel is for speed, the jobs' streams are the truth: on joining, on a gap, after each reconnect and after two
seconds of silence the stream is read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, Protocol

from api.errors import EventUnreadable, ShuttingDown, StreamCorrupt, StreamExpired
from api.streaming.cursor import Cursor
from api.streaming.pubsub_reader import Heard
from api.streaming.readership import Readership
from api.streaming.record_check import check_records
from api.streaming.subscription import Subscription
from api.streaming.updates import advance
from shared.domain.events import Entry, decode_event, decode_positions
from shared.domain.usage import Usage
from shared.errors import DecodeError, RequestError, ScriptFailed, StoreUnavailable
from shared.store.job_reader import Page
from shared.store.job_store import JobStore

logger = logging.getLogger(__name__)

#: A followed job of which nothing is heard for this long is looked up: its last event, and more rarely its record.
SILENCE_S, RECORD_SILENCE_S = 2.0, 15.0
#: Records that are read in one call.
_RECORDS_AT_ONCE = 100
_TICK_S = 0.25
#: Readers who get a page before the relay looks to its other duties.
_READ_AT_ONCE = 32


class Source(Protocol):
    """Where events are heard: `api.streaming.pubsub_reader.PubSubReader`."""

    def messages(self) -> AsyncIterator[list[Heard] | Literal["connected"]]: ...


@dataclass(slots=True)
class _Followed:
    """A job that somebody follows."""

    heard_at: float
    #: When its record was read, or something was heard.
    checked_at: float
    subscriptions: list[Subscription] = field(default_factory=list)

    def is_silent(self, before: float) -> bool:
        """Whether nothing was heard since, and somebody waits for it who is not reading already."""
        return self.heard_at < before and not all(
            subscription.is_reading for subscription in self.subscriptions
        )


class Relay:
    """Brings each event to the subscriptions of its job."""

    def __init__(
        self,
        store: JobStore,
        source: Source,
        readership: Readership,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._source = source
        self._readership = readership
        self._clock = clock
        self._followed: dict[str, _Followed] = {}
        #: Who lacks something, in the order of their turns.
        self._stale: dict[Subscription, None] = {}
        self._work = asyncio.Event()
        self._is_stopping = False

    @property
    def num_subscriptions(self) -> int:
        return sum(len(followed.subscriptions) for followed in self._followed.values())

    # Following

    def follow(self, job_id: str, cursor: Cursor) -> Subscription:
        """A subscription that gets the job's events once this replica has joined the job: by `catch_up`, which also
        reads what came before, or by creating the job with `subscription.reader`. Raises ShuttingDown."""
        if self._is_stopping:
            raise ShuttingDown
        subscription = Subscription(job_id, cursor, self._readership.add(job_id))
        now = self._clock()
        self._followed.setdefault(job_id, _Followed(now, now)).subscriptions.append(subscription)
        subscription.on_close(lambda: self._leave(subscription))
        subscription.on_room(lambda: self._read_later(subscription))
        return subscription

    def _leave(self, subscription: Subscription) -> None:
        followed = self._followed[subscription.job_id]
        followed.subscriptions.remove(subscription)
        if not followed.subscriptions:
            del self._followed[subscription.job_id]
        self._stale.pop(subscription, None)
        self._readership.remove(subscription.job_id, subscription.departure)

    @contextmanager
    def creating(self, subscription: Subscription) -> Iterator[None]:
        """For the call that creates the subscription's job: nothing can be missed, so nothing is read. Until the job
        is written the subscription holds, so that nobody looks for a stream that is not there yet."""
        subscription.hold()
        self._readership.joining(subscription.job_id)
        try:
            yield
        finally:
            self._readership.joined(subscription.job_id)
        subscription.is_joined = True
        if not subscription.join([]):
            self._read_later(subscription)

    def _read_later(self, subscription: Subscription) -> None:
        self._stale[subscription] = None
        self._work.set()

    async def catch_up(self, subscription: Subscription) -> Entry:
        """Join the job, and read its stream from where the subscription stands. Returns the stream's last entry.

        It reads up to the first page with updates, of which the subscription takes what it has room for. The relay
        reads on by itself each time that this was taken. Raises StreamExpired, StoreUnavailable, DecodeError.
        """
        if not subscription.is_joined:
            if (await self._readership.join(subscription.job_id)).status == "gone":
                raise StreamExpired(subscription.job_id)
            subscription.is_joined = True
        last = await self._read_page(subscription)
        while subscription.is_behind and subscription.has_room:
            last = await self._read_page(subscription)
        return last

    async def _read_page(self, subscription: Subscription) -> Entry:
        subscription.hold()
        page, by_id = Page([], None, is_end=True), subscription.last_id is not None
        try:
            page = await (self._read_by_id(subscription) if by_id else self._read_by_position(subscription))
            if page.last is None:
                raise StreamExpired(subscription.job_id)
        finally:
            is_joined = subscription.join(page.entries, is_end=page.is_end, by_id=by_id)
            if not is_joined or page.last is None:
                self._read_later(subscription)
        return page.last

    async def _read_by_id(self, subscription: Subscription) -> Page:
        job_id, last_id = subscription.job_id, subscription.last_id
        page = await self._store.page(job_id, after=last_id, limit=subscription.page_size)
        if page.entries or page.last is None:
            return page
        # Nothing came after it: then the stream's last one tells whether the subscription has all.
        return page._replace(entries=[page.last])

    async def _read_by_position(self, subscription: Subscription) -> Page:
        cursor, job_id, limit = subscription.cursor, subscription.job_id, subscription.page_size
        if any(cursor.positions):
            # One token further back than needed: a choice may have ended without another token.
            before = tuple(position - 1 for position in cursor.positions)
            page = await self._store.page_back_to(job_id, before, limit=limit)
            if page.entries and advance(cursor, page.entries[0]) is not None:
                return page
        return await self._store.page(job_id, after=None, limit=limit)

    # Stopping

    def stop(self) -> None:
        """End all following: this process goes, the jobs stay."""
        self._is_stopping = True
        for followed in self._followed.values():
            for subscription in followed.subscriptions:
                subscription.fail(ShuttingDown())

    # Working

    async def listen(self) -> None:
        """Pass on what is published, for ever."""
        async for message in self._source.messages():
            if message == "connected":
                self._look_up_all()
                continue
            for heard in message:
                followed = self._followed.get(heard.job_id)
                if followed is not None:
                    self._hear(followed, heard)

    def _hear(self, followed: _Followed, heard: Heard) -> None:
        followed.heard_at = followed.checked_at = self._clock()
        try:
            end, used = decode_positions(heard.end), Usage.decode(heard.used)
            entry = Entry(heard.stream_id, end, decode_event(heard.event), used)
            self._offer(followed, entry)
        except DecodeError as error:
            self._fail(followed, heard.job_id, error)

    def _fail(self, followed: _Followed, job_id: str, error: DecodeError) -> None:
        """Something that this version cannot read, and must not skip."""
        logger.error("%s: %s", job_id, error)
        self._end(followed, EventUnreadable(job_id))

    def _end(self, followed: _Followed, reason: RequestError) -> None:
        for subscription in list(followed.subscriptions):
            subscription.fail(reason)

    def _offer(self, followed: _Followed, entry: Entry) -> None:
        """Raises DecodeError."""
        for subscription in followed.subscriptions:
            if not subscription.offer(entry):
                self._read_later(subscription)

    def _look_up_all(self) -> None:
        for followed in self._followed.values():
            followed.heard_at = float("-inf")
        self._work.set()

    async def look_after(self) -> None:
        """Mend gaps and look up silent jobs, for ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._work.wait()
            self._work.clear()
            try:
                await self._mend()
                await self._look_up_silent()
                await self._check_records()
            except StoreUnavailable as error:
                logger.warning("relay: %s", error)
                await asyncio.sleep(_TICK_S)

    async def _mend(self) -> None:
        """Read on for some who lack something, a page each, first for those who keep up. Who lacks more has
        another turn."""
        for subscription in sorted(self._stale, key=lambda subscription: subscription.is_behind)[
            :_READ_AT_ONCE
        ]:
            if subscription not in self._stale:
                continue  # left meanwhile
            del self._stale[subscription]
            if not subscription.has_room:
                continue
            try:
                await self.catch_up(subscription)
            except ScriptFailed as error:
                logger.error("%s: %s", subscription.job_id, error)
                self._stale.pop(subscription, None)
                subscription.fail(StreamCorrupt(subscription.job_id))
            except StoreUnavailable:
                self._read_later(subscription)
                raise
            except StreamExpired as error:
                self._stale.pop(subscription, None)
                subscription.fail(error)
            except DecodeError as error:
                logger.error("%s: %s", subscription.job_id, error)
                self._stale.pop(subscription, None)
                subscription.fail(EventUnreadable(subscription.job_id))
        if self._stale:
            self._work.set()

    async def _look_up_silent(self) -> None:
        """Read the last entry of every job that was silent, all in one call."""
        before = self._clock() - SILENCE_S
        silent = [job_id for job_id, followed in self._followed.items() if followed.is_silent(before)]
        if not silent:
            return
        for job_id, last in zip(silent, await self._store.last_entries(silent), strict=True):
            followed = self._followed.get(job_id)
            if followed is None:
                continue
            followed.heard_at = self._clock()
            self._found(followed, job_id, last)

    def _found(self, followed: _Followed, job_id: str, last: Entry | DecodeError | None) -> None:
        """A look-up found this as the last entry of a job's stream."""
        try:
            if isinstance(last, Entry):
                self._offer(followed, last)
            elif last is None:
                for subscription in followed.subscriptions:
                    self._read_later(subscription)
            else:
                raise last
        except DecodeError as error:
            self._fail(followed, job_id, error)

    async def _check_records(self) -> None:
        """Read the records of jobs that were silent for long, so that no reader waits for ever, whatever happened."""
        now = self._clock()
        silent = [
            id for id, followed in self._followed.items() if followed.checked_at < now - RECORD_SILENCE_S
        ]
        silent = silent[:_RECORDS_AT_ONCE]
        ends = await check_records(self._store, silent)
        for job_id in silent:
            if not (followed := self._followed.get(job_id)):
                continue
            followed.checked_at = now
            match ends.get(job_id):
                case Entry() as end:
                    self._found(followed, job_id, end)
                case RequestError() as reason:
                    self._end(followed, reason)
