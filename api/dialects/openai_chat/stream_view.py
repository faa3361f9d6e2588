"""ChatStreamView: a job's news as the SSE blocks that an OpenAI client expects. No named events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from api.dialects.openai_chat.chunks import Chunks, JobInfo, usage_of
from api.errors import error_of
from api.streaming.cursor import Cursor
from api.streaming.sse import block
from api.streaming.updates import EndEvent, Update
from shared.domain.events import ChoiceOutput
from shared.errors import ErrorInfo


class ChatStreamView:
    """Chunks of `/v1/chat/completions`, each with its cursor."""

    def __init__(self, job_info: JobInfo, start: Cursor, *, include_usage: bool) -> None:
        self._chunks = Chunks(job_info, with_usage=include_usage)
        self._owes_usage = include_usage and start.ending == "open"

    def encode(self, news: Iterable[Update]) -> bytes:
        """Everything in one piece: it goes out in one write."""
        return "".join([block for one in news for block in self._blocks(one)]).encode()

    def _blocks(self, one: Update) -> Iterator[str]:
        if isinstance(one.event, ChoiceOutput):
            chunk = self._chunks.chunk(one.event, begins=one.begins)
            if chunk is not None:
                yield block(chunk, one.cursor.encode())
        elif isinstance(one.event, EndEvent):
            yield from self._end(one.event, one)

    def _end(self, end: EndEvent, one: Update) -> Iterator[str]:
        error = error_of(end)
        if error is not None:
            yield self.error(error, one.cursor)
            return
        if self._owes_usage:
            usage = self._chunks.usage(usage_of(end, one.completion_tokens))
            yield block(usage, one.cursor._replace(ending="usage").encode())
        yield block("[DONE]", one.cursor.encode())

    def error(self, error: ErrorInfo, cursor: Cursor) -> str:
        """An error after the status line: the official clients raise it."""
        return block(json.dumps({"error": error.to_json()}, separators=(",", ":")), cursor.encode())
