"""Join: what an event tells a reader who stands at a cursor. By position, never by stream id."""

from __future__ import annotations

from typing import NamedTuple

from api.jobs.queue_position import Place
from api.streaming.cursor import ChoiceCursor, Cursor
from shared.domain.events import (
    Cancelled,
    ChoiceOutput,
    Completed,
    Entry,
    Event,
    Expired,
    Failed,
    Incomplete,
    Output,
    Queued,
    Requeued,
    Resumed,
    Started,
)

LifeCycleEvent = Queued | Started | Resumed | Requeued
EndEvent = Completed | Incomplete | Failed | Cancelled | Expired


class Update(NamedTuple):
    """One thing that the reader did not know: tokens of one choice, a life-cycle event, or its place in the
    queue, which stands in no stream and moves no cursor."""

    event: ChoiceOutput | LifeCycleEvent | EndEvent | Place
    #: Where the reader stands when it has read this.
    cursor: Cursor
    #: Tokens of all choices up to the entry that this is from.
    completion_tokens: int
    #: Whether these are a choice's first tokens.
    begins: bool = False

    @property
    def is_end(self) -> bool:
        return isinstance(self.event, EndEvent)


def advance(cursor: Cursor, entry: Entry) -> list[Update] | None:
    """The news of `entry` for a reader at `cursor`; nothing when it is known, None when something before
    it is missing (a gap: the stream has to be read again)."""
    event = entry.event
    fence, _, number = entry.id.partition("-")
    if isinstance(event, Output):
        return None if int(fence) > cursor.marker else _read_output(cursor, event, entry)
    # Whatever changes a job's hands writes `<next fence>-0`; only a worker's own end has another number.
    follows = int(fence) - 1 if number == "0" else int(fence)
    if follows > cursor.marker or any(map(int.__lt__, cursor.positions, entry.end)):
        return None
    return _read_life_cycle(cursor, event, entry, int(fence))


def _read_output(cursor: Cursor, output: Output, entry: Entry) -> list[Update] | None:
    news: list[Update] = []
    for part in output.choices:
        tokens, stage = cursor.choices[part.index]
        if part.start > tokens:
            return None
        is_new = part.end > tokens or (part.end == tokens and part.finish is not None)
        if is_new and stage != "finished":
            choice = ChoiceCursor(part.end, "begun" if part.finish is None else "finished")
            cursor = cursor.with_choice(part.index, choice)
            fresh = part if part.start == tokens else part.since(tokens)
            news.append(Update(fresh, cursor, entry.completion_tokens, stage == "nothing"))
    return news


def _read_life_cycle(cursor: Cursor, event: Event, entry: Entry, fence: int) -> list[Update] | None:
    assert not isinstance(event, Output)
    if not isinstance(event, EndEvent):
        if fence <= cursor.marker:
            return []
        return [Update(event, cursor._replace(marker=fence), entry.completion_tokens)]
    if isinstance(event, Completed | Incomplete) and any(c.stage != "finished" for c in cursor.choices):
        return None
    if cursor.ending == "over":
        return []
    over = cursor._replace(marker=max(fence, cursor.marker), ending="over")
    return [Update(event, over, entry.completion_tokens)]
