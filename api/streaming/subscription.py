"""Subscription: one reader of one job, between the relay that hears events and the client that reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from api.errors import ClientGone, StreamCorrupt
from api.streaming.cursor import Cursor, behind_the_end
from api.streaming.queue_position import QueuePosition
from api.streaming.readership import Departure
from api.streaming.updates import Update, advance, marker_after
from shared.domain.events import Entry, Output, Queued, Requeued
from shared.domain.output import ChoiceOutput
from shared.errors import RequestError
from shared.store.job_store import Reader

#: Bytes of updates that wait for their reader, or one update of any size. What comes then is left in the stream.
MAX_UNREAD_BYTES = 64 * 1024
#: Entries of the stream that are read at once, and live ones that wait for that, at most.
MAX_PAGE = 64
#: Memory that one update takes, one token beside its text, one candidate of a token's logprobs, one
#: of the prompt's, and one choice in a cursor.
_UPDATE_BYTES = 384
_TOKEN_BYTES = 96
_CANDIDATE_BYTES = 160
_PROMPT_CANDIDATE_BYTES = 112
_CHOICE_BYTES = 8


class Subscription:
    """Joins what the relay offers by position and keeps it until it is taken.

    It keeps little. For a reader who is slower than his job it falls behind: it ignores live entries, and
    says that there is room each time that all was taken, upon which the relay reads the stream on.
    """

    def __init__(self, job_id: str, cursor: Cursor, reader: Reader) -> None:
        self.job_id = job_id
        #: By this the store knows that this replica reads the job.
        self.reader = reader
        #: Whether the store knows it yet.
        self.is_joined = False
        self._departure: Departure = "ended"
        #: Where the reader stands when it has taken everything.
        self.cursor = cursor
        #: Stream id of the last entry that was joined: where to look for the next ones, no more than a hint.
        self.last_id: str | None = None
        #: As many entries should be read at once: about what there is room for.
        self.page_size = MAX_PAGE
        #: Whether the stream has more than what was joined.
        self.is_behind = False
        #: Whether the job waits for a worker, by the last that was heard of it.
        self.is_waiting = False
        self._queue_position: QueuePosition | None = None
        self._unread: list[Update] = []
        self._unread_bytes = 0
        #: Live entries that wait for the stream to be read.
        self._held: list[Entry] | None = None
        self._failure: RequestError | None = None
        #: Where it stood when what was read by id did not continue it.
        self._lost_at: Cursor | None = None
        self._is_closed = False
        self._waiter: asyncio.Future[None] | None = None
        self._closers: list[Callable[[], object]] = []
        self._on_fail: Callable[[], object] | None = None
        self._on_room: Callable[[], object] = lambda: None

    # The relay's side

    @property
    def is_reading(self) -> bool:
        """Whether the stream is being read; live entries wait meanwhile."""
        return self._held is not None

    @property
    def has_room(self) -> bool:
        """Whether the stream should be read, if something is missing."""
        return not self.is_reading and not self._is_closed and not (self.is_behind and self._unread)

    def on_room(self, act: Callable[[], object]) -> None:
        """Call `act` when the reader took all and the stream has more."""
        self._on_room = act

    def offer(self, entry: Entry) -> bool:
        """Take a live entry, unless there is no room. False: something before it is missing, the stream has
        to be read."""
        if self._held is not None:
            if len(self._held) < MAX_PAGE:
                self._held.append(entry)
            return True
        return self._add(entry)

    def hold(self) -> None:
        """The stream is going to be read: keep live entries until `join`."""
        self._held = []

    def join(self, entries: Sequence[Entry], *, is_end: bool = True, by_id: bool = False) -> bool:
        """Go on with what was read, then, if that was the stream's end, with what was held. False: something
        is missing, in what was read after `last_id` or after it."""
        held, self._held = self._held or [], None
        self.is_behind = False
        for number, entry in enumerate(entries):
            if not self._add(entry):
                return self._lose(by_id=by_id)
            if self.is_behind:
                self.page_size = max(1, number)
                return True
        if is_end:
            # Where as many waited as may, more may have come.
            return all(self._add(entry) for entry in held) and len(held) < MAX_PAGE
        self.page_size = min(2 * self.page_size, MAX_PAGE)
        self.is_behind = True
        return True

    def _lose(self, *, by_id: bool) -> bool:
        """What was read does not continue what the reader has. False: it may be found by position."""
        # Redis was set back, or something before that id was never heard: positions will tell, once.
        if not by_id or self._lost_at == self.cursor:
            self.fail(StreamCorrupt(self.job_id))
            return True
        self._lost_at, self.last_id = self.cursor, None
        return False

    def _add(self, entry: Entry) -> bool:
        """False: something before it is missing. Without room for it the subscription is behind."""
        if self.is_behind:
            return True
        if entry.is_terminal and self.cursor.is_ahead_of(entry.end):
            self.fail(behind_the_end())
            return True
        updates = advance(self.cursor, entry)
        if updates is None:
            return False
        weight = sum([_weight(one) for one in updates])
        if self._unread and self._unread_bytes + weight > MAX_UNREAD_BYTES:
            self.is_behind = True
            return True
        self.last_id = entry.id
        if not isinstance(entry.event, Output):
            self.is_waiting = isinstance(entry.event, Queued | Requeued)
        if updates:
            self.cursor = updates[-1].cursor
            self._unread += updates
            self._unread_bytes += weight
            self.wake()
        else:
            self.cursor = marker_after(self.cursor, entry)
        return True

    def set_queue_position(self, position: QueuePosition) -> None:
        """Report the job's position in the queue; it replaces an older one that was not taken yet."""
        self._queue_position = position
        update = Update(position, self.cursor)
        if self._unread and isinstance(self._unread[-1].event, QueuePosition):
            self._unread[-1] = update
        else:
            self._unread.append(update)
        self.wake()

    @property
    def queue_position(self) -> QueuePosition | None:
        """The position that was reported last; None once the job waits no more."""
        return self._queue_position if self.is_waiting else None

    def fail(self, reason: RequestError) -> None:
        """End the following: `take` raises `reason`."""
        self._failure = self._failure or reason
        self.wake()
        if self._on_fail is not None:
            self._on_fail()

    # The reader's side

    async def take(self) -> list[Update]:
        """What is new, as far as it was kept; waits for something. Empty only after `wake`.

        Raises what `fail` was given.
        """
        if not self._unread and self._failure is None:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.take_ready()

    def take_ready(self) -> list[Update]:
        """The same without waiting."""
        if self._failure is not None:
            raise self._failure
        updates, self._unread = self._unread, []
        self._unread_bytes = 0
        if self.is_behind:
            self._on_room()
        return updates

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

    @property
    def departure(self) -> Departure:
        """How the reader left."""
        return "left" if isinstance(self._failure, ClientGone) else self._departure

    def close(self, departure: Departure = "ended") -> None:
        """The reader leaves. Whether its client closed the connection is known already, by `fail`."""
        self._departure = departure
        self._is_closed = True
        while self._closers:
            self._closers.pop()()


def _weight(update: Update) -> int:
    weight = _UPDATE_BYTES + _CHOICE_BYTES * len(update.cursor.choices)
    event = update.event
    if not isinstance(event, ChoiceOutput):
        return weight
    candidates = sum([1 + len(one.top) for one in event.logprobs]) if event.logprobs else 0
    prompt_candidates = 0 if event.prompt_logprobs is None else event.prompt_logprobs.num_candidates
    return (
        weight
        + _TOKEN_BYTES * len(event.texts)
        + sum(map(len, event.texts))
        + _CANDIDATE_BYTES * candidates
        + _PROMPT_CANDIDATE_BYTES * prompt_candidates
    )
