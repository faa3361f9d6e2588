"""OpenAICompletions: the dialect of `/v1/completions` (https://platform.openai.com/docs/api-reference/completions)."""

from __future__ import annotations

from typing import Any

from api.dialects.base import ItemReader, JobInfo, Parsed, View
from api.dialects.openai_completions.completion import completion
from api.dialects.openai_completions.encoder import CompletionEncoder
from api.dialects.openai_completions.ids import completion_id, job_id_of
from api.dialects.openai_completions.schema import read_completion
from api.dialects.usage import usage_in
from api.streaming.cursor import Cursor
from shared.domain.result import Result
from shared.errors import ErrorInfo


class OpenAICompletions:
    """Implements `api.dialects.base.Dialect`."""

    endpoint = "/v1/completions"

    def parse(self, fields: dict[str, Any], *, prefix: str = "") -> Parsed:
        ignored: list[str] = []
        asked = read_completion(fields, prefix=prefix, ignored=ignored)
        return Parsed(
            model=asked.model,
            request=asked.request(),
            view=asked.view(),
            metadata=asked.metadata or {},
            is_streamed=asked.stream,
            ignored=tuple(ignored),
        )

    def encoder(self, job: JobInfo, view: View, start: Cursor, items: ItemReader) -> CompletionEncoder:  # noqa: ARG002
        return CompletionEncoder(job, start, usage_in=usage_in(view))

    def whole(self, job: JobInfo, view: View, result: Result) -> dict[str, Any]:
        return completion(job, view, result)

    def error(self, info: ErrorInfo) -> dict[str, Any]:
        return {"error": info.to_json()}

    def object_id(self, job_id: str) -> str:
        return completion_id(job_id)

    def job_id(self, object_id: str) -> str | None:
        return job_id_of(object_id)
