"""ChatRequest: the body of `/v1/chat/completions` (https://platform.openai.com/docs/api-reference/chat/create)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator, model_validator

from api.dialects.openai_chat.message import Message, read_message
from api.dialects.openai_chat.prompting import PromptOptions
from api.dialects.openai_chat.sampling import Sampling
from api.dialects.openai_chat.structured_outputs import Structure, drop_noop_structure
from api.dialects.openai_chat.unsupported import UNSUPPORTED, UNSUPPORTED_IN_STREAM_OPTIONS, drop_noop_fields
from api.http.validation import FieldFault, Schema, validate

MAX_MESSAGES = 4096
#: 16 pairs, names of 64 characters, values of 512.
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
    Field(max_length=16),
]
_Name = Annotated[str, Field(max_length=512)] | None


class StreamOptions(Schema):
    """How a stream is sent."""

    include_usage: bool = Field(False, description="A last chunk tells the usage.")


class WithoutEffect(Schema):
    """What is taken and changes nothing."""

    user: _Name = Field(None, description="Who the end user is.")
    safety_identifier: _Name = Field(None, description="Who the end user is.")
    prompt_cache_key: _Name = Field(None, description="No request reads what another one has cached.")
    store: bool | None = Field(None, description="Every answer can be fetched until its retention ends.")
    spaces_between_special_tokens: bool | None = Field(None, description="Nothing is put between tokens.")


class ChatRequest(WithoutEffect, Structure, PromptOptions, Sampling):
    """A chat, checked."""

    model: Annotated[str, Field(min_length=1)] = Field(description="One of `/v1/models`.")
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)] = Field(
        description="The conversation, rendered by the model's own chat template."
    )
    stream: bool = Field(False, description="Answer with server-sent events.")
    stream_options: StreamOptions | None = Field(
        None, description="`include_usage`: a last chunk tells the usage. Needs `stream`."
    )
    metadata: Metadata | None = Field(
        None, description="Kept with the job. Names of 64 characters, values of 512."
    )

    @field_validator("stream_options")
    @classmethod
    def _needs_stream(cls, options: StreamOptions | None, info: Any) -> StreamOptions | None:
        if options is not None and info.data.get("stream") is False:
            raise ValueError("it is only allowed with 'stream': true")
        return options

    @model_validator(mode="after")
    def _tells_the_prompt_whole(self) -> ChatRequest:
        if self.stream and self.prompt_logprobs is not None:
            raise FieldFault("prompt_logprobs", "it is only allowed without 'stream': true")
        return self

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def to_body(self) -> dict[str, Any]:
        """What is stored in the job, for `workers/requests/resolver.py` and for those who take the stream up again."""
        messages = [message.to_body() for message in self.messages]
        asked = {**self.sampling_body(), **self.structure_body(), **self.prompting_body()}
        body: dict[str, Any] = {"messages": messages, **asked}
        if self.include_usage:
            body["stream_options"] = {"include_usage": True}
        return body


def read_chat(fields: dict[str, Any], *, prefix: str = "") -> ChatRequest:
    """A chat from its JSON. Raises RequestError (400). A field that is null counts as not given."""
    fields = drop_noop_fields(fields, ChatRequest, UNSUPPORTED, prefix)
    messages, options = fields.get("messages"), fields.get("stream_options")
    if isinstance(messages, list):
        fields["messages"] = [
            read_message(message, f"{prefix}messages[{index}]") for index, message in enumerate(messages)
        ]
    if isinstance(options, dict):
        fields["stream_options"] = drop_noop_fields(
            options, StreamOptions, UNSUPPORTED_IN_STREAM_OPTIONS, f"{prefix}stream_options."
        )
    if isinstance(outputs := fields.get("structured_outputs"), dict):
        fields["structured_outputs"] = drop_noop_structure(outputs, f"{prefix}structured_outputs.")
    return validate(ChatRequest, fields, prefix=prefix)
