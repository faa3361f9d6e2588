"""OpenAIChat: the dialect of `/v1/chat/completions` (https://platform.openai.com/docs/api-reference/chat)."""

from __future__ import annotations

from typing import Any

from api.dialects.base import ItemReader, JobInfo, Parsed, View
from api.dialects.openai_chat.completion import completion
from api.dialects.openai_chat.encoder import ChatEncoder
from api.dialects.openai_chat.ids import completion_id, job_id_of
from api.dialects.openai_chat.schema import read_chat
from api.dialects.usage import usage_in
from api.streaming.cursor import Cursor
from shared.domain.result import Result
from shared.errors import ErrorInfo


class OpenAIChat:
    """Implements `api.dialects.base.Dialect`."""

    endpoint = "/v1/chat/completions"

    def parse(self, fields: dict[str, Any], *, prefix: str = "") -> Parsed:
        ignored: list[str] = []
        chat = read_chat(fields, prefix=prefix, ignored=ignored)
        return Parsed(
            model=chat.model,
            request=chat.request(),
            view=chat.view(),
            metadata=chat.metadata or {},
            is_streamed=chat.stream,
            ignored=tuple(ignored),
        )

    def encoder(self, job: JobInfo, view: View, start: Cursor, items: ItemReader) -> ChatEncoder:  # noqa: ARG002
        return ChatEncoder(job, start, usage_in=usage_in(view))

    def whole(self, job: JobInfo, view: View, result: Result) -> dict[str, Any]:  # noqa: ARG002
        return completion(job, result)

    def error(self, info: ErrorInfo) -> dict[str, Any]:
        return {"error": info.to_json()}

    def object_id(self, job_id: str) -> str:
        return completion_id(job_id)

    def job_id(self, object_id: str) -> str | None:
        return job_id_of(object_id)
