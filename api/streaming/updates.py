"""Updates: what an event adds for a reader that stands at a cursor. Compared by position, never by stream id."""

from __future__ import annotations

from typing import NamedTuple

from api.streaming.cursor import ChoiceCursor, Cursor
from api.streaming.queue_position import QueuePosition
from shared.domain.events import (
    Cancelled,
    Completed,
    Entry,
    Event,
    Expired,
    Failed,
    Incomplete,
    LifeCycleEvent,
    Output,
    TerminalEvent,
    Unknown,
)
from shared.domain.output import ChoiceOutput
from shared.domain.usage import Usage
from shared.errors import DecodeError

EndEvent = Completed | Incomplete | Failed | Cancelled | Expired


class Update(NamedTuple):
    """One thing that the reader did not know: units of one choice, a life-cycle event, or its position in the queue,
    which stands in no stream and moves no cursor."""

    event: ChoiceOutput | LifeCycleEvent | EndEvent | QueuePosition
    #: Where the reader stands once it has read this.
    cursor: Cursor
    #: Tokens used up to the entry that this is from.
    used: Usage = Usage()
    #: Whether output begins here for this reader: these are the first units of any choice.
    begins: bool = False

    @property
    def is_end(self) -> bool:
        return isinstance(self.event, EndEvent)


def advance(cursor: Cursor, entry: Entry) -> list[Update] | None:
    """The updates of `entry` for a reader at `cursor`; empty when it knows them, None when something before it is
    missing (a gap: the stream has to be read again). Raises DecodeError for an entry of another number of choices."""
    event = entry.event
    if len(entry.end) != len(cursor.choices):
        raise DecodeError("stream entry", entry.id)
    fence, _, number = entry.id.partition("-")
    if isinstance(event, Output):
        return None if int(fence) > cursor.marker else _read_output(cursor, event, entry)
    # Whatever changes a job's hands writes `<next fence>-0`; only a worker's own end has another number.
    follows = int(fence) - 1 if number == "0" else int(fence)
    if follows > cursor.marker or any(map(int.__lt__, cursor.positions, entry.end)):
        return None
    return _read_life_cycle(cursor, event, entry, int(fence))


def marker_after(cursor: Cursor, entry: Entry) -> Cursor:
    """The cursor behind an entry of which there is nothing to tell: an event of a newer version."""
    fence = int(entry.id.partition("-")[0])
    return cursor._replace(marker=max(fence, cursor.marker)) if isinstance(entry.event, Unknown) else cursor


def _read_output(cursor: Cursor, output: Output, entry: Entry) -> list[Update] | None:
    updates: list[Update] = []
    for part in output.choices:
        if not 0 <= part.index < len(cursor.choices):
            raise DecodeError("stream entry", entry.id)
        units, stage = cursor.choices[part.index]
        if part.start > units:
            return None
        end, is_finish = part.end, part.finish is not None
        if (end > units or (end == units and is_finish)) and stage != "finished":
            choice = ChoiceCursor(end, "finished" if is_finish else "begun")
            begins = stage == "nothing" or (len(cursor.choices) > 1 and not cursor.has_begun)
            if begins:
                cursor = cursor.begun()
            cursor = cursor.with_choice(part.index, choice)
            fresh = part if part.start == units else part.since(units)
            updates.append(Update(fresh, cursor, entry.used, begins))
    return updates


def _read_life_cycle(cursor: Cursor, event: Event, entry: Entry, fence: int) -> list[Update] | None:
    if isinstance(event, LifeCycleEvent):
        if fence <= cursor.marker:
            return []
        return [Update(event, cursor._replace(marker=fence), entry.used)]
    if not isinstance(event, TerminalEvent):
        return []
    if isinstance(event, Completed | Incomplete) and any(c.stage != "finished" for c in cursor.choices):
        return None
    if cursor.ending == "over":
        return []
    over = cursor._replace(marker=max(fence, cursor.marker), ending="over")
    return [Update(event, over, entry.used)]
