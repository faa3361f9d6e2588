"""CompletionEncoder: a job's updates as the events of `/v1/completions`. Events have no names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from json.encoder import encode_basestring_ascii as quote

from api.dialects.base import Block, JobInfo
from api.dialects.openai_chat.chunk import compact, usage_field
from api.dialects.openai_completions.ids import completion_id
from api.dialects.openai_completions.logprobs import logprobs_of_units
from api.dialects.usage import UsageIn
from api.errors import error_of
from api.streaming.cursor import Cursor
from api.streaming.updates import EndEvent, Update
from shared.domain.output import ChoiceOutput
from shared.errors import ErrorInfo


class CompletionEncoder:
    """Implements `api.dialects.base.Encoder`."""

    def __init__(self, job: JobInfo, start: Cursor, *, usage_in: UsageIn) -> None:
        self._before = (
            f'{{"id":{quote(completion_id(job.job_id))},"object":"text_completion",'
            f'"created":{job.created},"model":{quote(job.model)},"choices":['
        )
        self._has_usage_so_far = usage_in == "every"
        self._owes_usage = usage_in != "nothing" and start.ending == "open"
        self._no_usage = ',"usage":null' if usage_in == "last" else ""

    async def encode(self, updates: Sequence[Update]) -> list[Block]:
        """One event for each update that says something."""
        blocks: list[Block] = []
        for update in updates:
            event = update.event
            if isinstance(event, ChoiceOutput):
                if chunk := self._chunk(event, update):
                    blocks.append(Block(chunk, update.cursor.encode()))
            elif isinstance(event, EndEvent):
                blocks += self._end(event, update)
        return blocks

    def error(self, info: ErrorInfo, cursor: Cursor) -> Block:
        """An error behind the status line. The official clients raise it."""
        return Block(compact({"error": info.to_json()}), cursor.encode())

    def _chunk(self, output: ChoiceOutput, update: Update) -> str | None:
        text, finish = output.text, output.finish
        if not text and finish is None and not output.logprobs:
            return None
        logprobs = compact(logprobs_of_units(output)) if output.logprobs else "null"
        reason = "null" if finish is None else quote(finish.reason)
        usage = usage_field(update.used) if self._has_usage_so_far else self._no_usage
        return (
            f'{self._before}{{"index":{output.index},"text":{quote(text)},"logprobs":{logprobs},'
            f'"finish_reason":{reason}}}]{usage}}}'
        )

    def _end(self, end: EndEvent, update: Update) -> Iterator[Block]:
        error = error_of(end)
        if error is not None:
            yield self.error(error, update.cursor)
            return
        if self._owes_usage:
            chunk = f"{self._before}]{usage_field(update.used)}}}"
            yield Block(chunk, update.cursor._replace(ending="usage").encode())
        yield Block("[DONE]", update.cursor.encode())
