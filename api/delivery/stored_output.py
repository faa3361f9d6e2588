"""StoredOutput: what a job has released, read from its stream page by page."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing

from api.errors import EventUnreadable, StreamCorrupt
from api.streaming.cursor import Cursor
from api.streaming.updates import advance, marker_after
from shared.domain.events import Entry, Output
from shared.domain.output import Args, ChoiceOutput, Reasoning, Refusal, Text
from shared.domain.result import Result
from shared.errors import DecodeError
from shared.store.job_reader import JobReader, Page

#: Entries read at a time.
_PAGE = 64


class StoredOutput:
    """The output of one job. All methods raise StoreUnavailable, and EventUnreadable for what a newer version wrote."""

    def __init__(self, reader: JobReader, job_id: str, n: int) -> None:
        self._reader = reader
        self._job_id = job_id
        self._n = n

    async def result(self) -> Result:
        """All that was released so far. Raises StreamCorrupt."""
        result, cursor = Result.empty(self._n), Cursor.start(self._job_id, self._n)
        async with aclosing(self._entries(None)) as entries:
            async for entry in entries:
                updates = advance(cursor, entry)
                if updates is None:
                    raise StreamCorrupt(self._job_id)
                for update in updates:
                    cursor = update.cursor
                    if isinstance(update.event, ChoiceOutput):
                        result.take([update.event])
                cursor = marker_after(cursor, entry)
                result.used = entry.used
        return result

    async def text(self, choice: int, item: int, start: int, end: int) -> str:
        """Text of the item with this index, which began at position `start` and has units before position `end`."""
        texts: list[str] = []
        positions = tuple([start if index == choice else sys.maxsize for index in range(self._n)])
        async with aclosing(self._entries(positions)) as entries:
            async for entry in entries:
                outputs = entry.event.choices if isinstance(entry.event, Output) else ()
                for output in outputs:
                    if output.index == choice and output.start >= end:
                        return "".join(texts)
                    if output.index == choice:
                        texts += _texts_of(output, item)
        return "".join(texts)

    async def _entries(self, positions: tuple[int, ...] | None) -> AsyncGenerator[Entry, None]:
        """From the last entry at or before `positions` on, or from the first."""
        try:
            page = await self._first(positions)
            while True:
                for entry in page.entries:
                    yield entry
                if page.is_end or not page.entries:
                    return
                page = await self._reader.page(self._job_id, after=page.entries[-1].id, limit=_PAGE)
        except DecodeError as error:
            raise EventUnreadable(self._job_id) from error

    async def _first(self, positions: tuple[int, ...] | None) -> Page:
        if positions is None:
            return await self._reader.page(self._job_id, after=None, limit=_PAGE)
        return await self._reader.page_back_to(self._job_id, positions, limit=_PAGE)


def _texts_of(output: ChoiceOutput, item: int) -> list[str]:
    return [
        op.text
        for position, head, op in output.ops()
        if isinstance(op, Text | Reasoning | Refusal | Args) and head.after(op, position).item == item
    ]
