"""ChunkEncoder: what the streams of OpenAI's chats and completions have in common. Events have no names."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from api.dialects.base import Block
from api.dialects.usage import UsageIn, usage_json
from api.errors import error_of
from api.streaming.cursor import Cursor
from api.streaming.updates import EndEvent, Update
from shared.domain.output import ChoiceOutput
from shared.domain.usage import Usage
from shared.errors import ErrorInfo


class ChunkEncoder(ABC):
    """Implements `api.dialects.base.Encoder`. Subclasses write the chunks."""

    def __init__(self, start: Cursor, before: str, *, usage_in: UsageIn) -> None:
        """`before`: what every chunk begins with, up to the bracket that opens its choices."""
        self._start = start
        self._before = before
        self._has_usage_so_far = usage_in == "every"
        self._owes_usage = usage_in != "nothing" and start.ending == "open"
        # OpenAI's chunks say `usage: null` when a usage chunk will follow.
        self._no_usage = ',"usage":null' if usage_in == "last" else ""

    @abstractmethod
    def _add(self, blocks: list[Block], output: ChoiceOutput, update: Update, usage: str) -> None:
        """Add the events of one output, if it says something. `usage`: the member `usage` of its chunks."""

    async def encode(self, updates: Sequence[Update]) -> list[Block]:
        """The events of these updates; some say nothing."""
        blocks: list[Block] = []
        for update in updates:
            event = update.event
            if isinstance(event, ChoiceOutput):
                usage = usage_field(update.used) if self._has_usage_so_far else self._no_usage
                self._add(blocks, event, update, usage)
            elif isinstance(event, EndEvent):
                blocks += self._end(event, update)
        return blocks

    def error(self, info: ErrorInfo, cursor: Cursor) -> Block:
        """An error behind the status line. The official clients raise it."""
        return Block(compact({"error": info.to_json()}), cursor.encode())

    def _end(self, end: EndEvent, update: Update) -> Iterator[Block]:
        error = error_of(end)
        if error is not None:
            yield self.error(error, update.cursor)
            return
        if self._owes_usage:
            chunk = f"{self._before}]{usage_field(update.used)}}}"
            yield Block(chunk, update.cursor._replace(ending="usage").encode())
        yield Block("[DONE]", update.cursor.encode())


def usage_field(used: Usage) -> str:
    """The member `usage` of a chunk."""
    return f',"usage":{compact(usage_json(used))}'


def compact(value: dict[str, Any]) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"))
