"""CompletionEncoder: a job's updates as the events of `/v1/completions`."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quote

from api.dialects.base import Block, JobInfo
from api.dialects.chunk_encoder import ChunkEncoder, compact
from api.dialects.openai_completions.ids import completion_id
from api.dialects.openai_completions.logprobs import logprobs_of_units
from api.dialects.usage import UsageIn
from api.streaming.cursor import Cursor
from api.streaming.updates import Update
from shared.domain.output import ChoiceOutput


class CompletionEncoder(ChunkEncoder):
    """Chunks of `/v1/completions`."""

    def __init__(self, job: JobInfo, start: Cursor, *, usage_in: UsageIn) -> None:
        before = (
            f'{{"id":{quote(completion_id(job.job_id))},"object":"text_completion",'
            f'"created":{job.created},"model":{quote(job.model)},"choices":['
        )
        super().__init__(start, before, usage_in=usage_in)

    def _add(self, blocks: list[Block], output: ChoiceOutput, update: Update, usage: str) -> None:
        text, finish = output.text, output.finish
        if not text and finish is None and not output.logprobs:
            return
        logprobs = compact(logprobs_of_units(output)) if output.logprobs else "null"
        reason = "null" if finish is None else quote(finish.reason)
        chunk = (
            f'{self._before}{{"index":{output.index},"text":{quote(text)},"logprobs":{logprobs},'
            f'"finish_reason":{reason}}}]{usage}}}'
        )
        blocks.append(Block(chunk, update.cursor.encode()))
