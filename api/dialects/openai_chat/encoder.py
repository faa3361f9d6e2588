"""ChatEncoder: a job's updates as the events that OpenAI's clients expect. Events have no names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from api.dialects.base import Block, JobInfo
from api.dialects.openai_chat.chunk import ChunkWriter, compact, usage_field
from api.dialects.usage import UsageIn
from api.errors import error_of
from api.streaming.cursor import ChoiceCursor, Cursor
from api.streaming.updates import EndEvent, Update
from shared.domain.output import ChoiceOutput
from shared.errors import ErrorInfo


class ChatEncoder:
    """Chunks of `/v1/chat/completions`.

    OpenAI's Python client requires that choices begin in order. So the first output of any choice is preceded by a
    chunk with the role for each choice that has none yet; where there is one choice, its first chunk has the role.
    """

    def __init__(self, job: JobInfo, start: Cursor, *, usage_in: UsageIn) -> None:
        self._chunks = ChunkWriter(job)
        self._start = start
        self._has_many = job.n > 1
        self._has_usage_so_far = usage_in == "every"
        self._owes_usage = usage_in != "nothing" and start.ending == "open"
        # OpenAI's chunks say `usage: null` when a usage chunk will follow.
        self._no_usage = ',"usage":null' if usage_in == "last" else ""

    async def encode(self, updates: Sequence[Update]) -> list[Block]:
        """One event for each update that says something."""
        blocks: list[Block] = []
        for update in updates:
            event = update.event
            if isinstance(event, ChoiceOutput):
                usage = usage_field(update.used) if self._has_usage_so_far else self._no_usage
                begins = update.begins
                if begins and self._has_many:
                    blocks += self._roles(update.cursor.marker, usage)
                    begins = False
                chunk = self._chunks.output(event, usage, has_role=begins)
                if chunk is not None:
                    blocks.append(Block(chunk, update.cursor.encode()))
            elif isinstance(event, EndEvent):
                blocks += self._end(event, update)
        return blocks

    def error(self, info: ErrorInfo, cursor: Cursor) -> Block:
        """An error behind the status line. The official clients raise it."""
        return Block(compact({"error": info.to_json()}), cursor.encode())

    def _roles(self, marker: int, usage: str) -> Iterator[Block]:
        cursor = self._start._replace(marker=marker)
        for index, (position, stage) in enumerate(self._start.choices):
            if stage == "nothing":
                cursor = cursor.with_choice(index, ChoiceCursor(position, "begun"))
                yield Block(self._chunks.role(index, usage), cursor.encode())

    def _end(self, end: EndEvent, update: Update) -> Iterator[Block]:
        error = error_of(end)
        if error is not None:
            yield self.error(error, update.cursor)
            return
        if self._owes_usage:
            yield Block(self._chunks.usage(update.used), update.cursor._replace(ending="usage").encode())
        yield Block("[DONE]", update.cursor.encode())
