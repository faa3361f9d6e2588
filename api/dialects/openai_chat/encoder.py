"""ChatEncoder: a job's updates as the events that OpenAI's clients expect."""

from __future__ import annotations

from collections.abc import Iterator

from api.dialects.base import Block, JobInfo
from api.dialects.chunk_encoder import ChunkEncoder
from api.dialects.openai_chat.chunk import ChunkWriter
from api.dialects.usage import UsageIn
from api.streaming.cursor import ChoiceCursor, Cursor
from api.streaming.updates import Update
from shared.domain.output import ChoiceOutput


class ChatEncoder(ChunkEncoder):
    """Chunks of `/v1/chat/completions`.

    OpenAI's Python client requires that choices begin in order. So the first output of any choice is preceded by a
    chunk with the role for each choice that has none yet; where there is one choice, its first chunk has the role.
    """

    def __init__(self, job: JobInfo, start: Cursor, *, usage_in: UsageIn) -> None:
        self._chunks = ChunkWriter(job)
        super().__init__(start, self._chunks.before, usage_in=usage_in)
        self._has_many = job.n > 1

    def _add(self, blocks: list[Block], output: ChoiceOutput, update: Update, usage: str) -> None:
        begins = update.begins
        if begins and self._has_many:
            blocks += self._roles(update.cursor.marker, usage)
            begins = False
        chunk = self._chunks.output(output, usage, has_role=begins)
        if chunk is not None:
            blocks.append(Block(chunk, update.cursor.encode()))

    def _roles(self, marker: int, usage: str) -> Iterator[Block]:
        cursor = self._start._replace(marker=marker)
        for index, (position, stage) in enumerate(self._start.choices):
            if stage == "nothing":
                cursor = cursor.with_choice(index, ChoiceCursor(position, "begun"))
                yield Block(self._chunks.role(index, usage), cursor.encode())
