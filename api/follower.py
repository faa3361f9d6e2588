"""Follower: one reader of one job, between the relay that hears events and the client that reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from api.cursor import Cursor
from api.errors import SlowReader, StreamCorrupt
from api.join import News, read_on
from api.place import Place
from shared.errors import RequestError
from shared.events import ChoiceOutput, Entry, Output, Queued, Requeued

#: A reader that leaves more than this (bytes, about) unread is dropped. It can come back with its cursor.
MAX_UNREAD_BYTES = 4 * 1024 * 1024
#: What one piece of news weighs beside its text, one candidate of a token's logprobs, one of the prompt's.
_NEWS_BYTES = 256
_CANDIDATE_BYTES = 64
_PROMPT_CANDIDATE_BYTES = 32


class Follower:
    """Joins what the relay offers by position and keeps it until it is taken."""

    def __init__(self, job_id: str, cursor: Cursor) -> None:
        self.job_id = job_id
        #: Where the reader stands when it has taken everything.
        self.cursor = cursor
        #: Whether the job waits for a worker, by the last that was heard of it.
        self.is_waiting = False
        self._unread: list[News] = []
        self._unread_bytes = 0
        self._max_unread_bytes = MAX_UNREAD_BYTES
        #: Live entries that wait for the stream to be read.
        self._held: list[Entry] | None = None
        self._failure: RequestError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._closers: list[Callable[[], object]] = []
        self._on_fail: Callable[[], object] | None = None

    # The relay's side

    @property
    def is_reading(self) -> bool:
        """Whether the stream is being read; live entries wait meanwhile."""
        return self._held is not None

    def offer(self, entry: Entry) -> bool:
        """Take a live entry. False: something before it is missing, the stream has to be read."""
        if self._held is not None:
            self._held.append(entry)
            return True
        if not self._add(entry):
            return False
        if self._unread_bytes > self._max_unread_bytes:
            self.fail(SlowReader())
        return True

    def hold(self) -> None:
        """The stream is going to be read: keep live entries until `join`."""
        self._held = []

    def join(self, entries: Iterable[Entry]) -> bool:
        """Go on with what was read, then with what was held. False: something is missing after it."""
        held, self._held = self._held or [], None
        for entry in entries:
            if not self._add(entry):
                self.fail(StreamCorrupt(self.job_id))
                return True
        self._max_unread_bytes = self._unread_bytes + MAX_UNREAD_BYTES
        return all(self._add(entry) for entry in held)

    def _add(self, entry: Entry) -> bool:
        news = read_on(self.cursor, entry)
        if news is None:
            return False
        if not isinstance(entry.event, Output):
            self.is_waiting = isinstance(entry.event, Queued | Requeued)
        if news:
            self.cursor = news[-1].cursor
            self._unread += news
            self._unread_bytes += sum([_weight(one) for one in news])
            self.wake()
        return True

    def tell(self, place: Place) -> None:
        """The job's place in the queue, instead of an older one that was not taken yet."""
        news = News(place, self.cursor, sum(self.cursor.positions))
        if self._unread and isinstance(self._unread[-1].event, Place):
            self._unread[-1] = news
        else:
            self._unread.append(news)
        self.wake()

    def fail(self, reason: RequestError) -> None:
        """End the following: `take` raises `reason`."""
        self._failure = self._failure or reason
        self.wake()
        if self._on_fail is not None:
            self._on_fail()

    # The reader's side

    async def take(self) -> list[News]:
        """All that is new; waits for something. Empty only after `wake`. Raises what `fail` was given."""
        if not self._unread and self._failure is None:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.take_ready()

    def take_ready(self) -> list[News]:
        """The same without waiting."""
        if self._failure is not None:
            raise self._failure
        news, self._unread = self._unread, []
        self._unread_bytes, self._max_unread_bytes = 0, MAX_UNREAD_BYTES
        return news

    def wake(self) -> None:
        """Let a waiting `take` return."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def on_fail(self, act: Callable[[], object]) -> None:
        """Call `act` when the following ends: for a reader that is stuck elsewhere than in `take`."""
        self._on_fail = act

    def on_close(self, closer: Callable[[], object]) -> None:
        """Call `closer` when the reader leaves."""
        self._closers.append(closer)

    def close(self) -> None:
        """The reader leaves."""
        while self._closers:
            self._closers.pop()()


def _weight(news: News) -> int:
    event = news.event
    if not isinstance(event, ChoiceOutput):
        return _NEWS_BYTES
    candidates = sum([1 + len(one.top) for one in event.logprobs]) if event.logprobs else 0
    prompt_candidates = 0 if event.prompt_logprobs is None else event.prompt_logprobs.num_candidates
    return (
        _NEWS_BYTES
        + sum(map(len, event.texts))
        + _CANDIDATE_BYTES * candidates
        + _PROMPT_CANDIDATE_BYTES * prompt_candidates
    )
