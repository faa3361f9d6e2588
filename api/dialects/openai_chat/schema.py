"""ChatRequest: the body of `/v1/chat/completions` (https://platform.openai.com/docs/api-reference/chat/create)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from api.dialects.openai_chat.message import Message, read_message
from api.dialects.openai_chat.prompting import PromptOptions
from api.dialects.openai_chat.sampling import Sampling
from api.dialects.openai_chat.structured_outputs import Structure, drop_noop_structure
from api.dialects.openai_chat.unsupported import UNSUPPORTED
from api.dialects.unsupported import drop_noop_fields
from api.http.validation import FieldFault, Schema, validate
from shared.domain.request import GenerationRequest

MAX_MESSAGES = 4096
#: 16 pairs, names of 64 characters, values of 512.
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
    Field(max_length=16),
]
_Name = Annotated[str, Field(max_length=512)] | None
_NO_MEDIA = "The model reads text only."


class StreamOptions(Schema):
    """How a stream is sent."""

    include_usage: bool = Field(False, description="Send the usage in a last chunk.")
    continuous_usage_stats: bool = Field(
        False, description="With `include_usage`: send the usage so far in every chunk (vLLM)."
    )
    include_obfuscation: bool = Field(False, description="No effect: nothing is added to chunks.")


class VllmWithoutEffect(Schema):
    """vLLM's fields that are accepted and change nothing."""

    cache_salt: _Name = Field(None, description="Cached prompts are never shared between API keys.")
    guided_decoding_backend: _Name = Field(None, description="There is one backend.")
    length_penalty: float | None = Field(None, description="It applies to beam search only.")
    media_io_kwargs: dict[str, Any] | None = Field(None, description=_NO_MEDIA)
    mm_processor_kwargs: dict[str, Any] | None = Field(None, description=_NO_MEDIA)
    priority: int | None = Field(None, description="Use `priority` of `/v1/jobs`.")
    request_id: _Name = Field(None, description="Use the header `x-request-id`.")
    session_id: _Name = Field(None, description="Requests need no routing.")
    spaces_between_special_tokens: bool | None = Field(None, description="Nothing is put between tokens.")
    stream_interval: int | None = Field(None, description="Output is sent as soon as it is there.")
    truncation_side: Literal["left", "right"] | None = Field(None, description="Prompts are not truncated.")


class WithoutEffect(VllmWithoutEffect):
    """Fields that are accepted and change nothing."""

    parallel_tool_calls: bool | None = Field(None, description="There are no tool calls.")
    prediction: dict[str, Any] | None = Field(None, description="Speed only.")
    prompt_cache_key: _Name = Field(None, description="Cached prompts are found by their content.")
    prompt_cache_options: dict[str, Any] | None = Field(None, description="Speed only.")
    prompt_cache_retention: _Name = Field(None, description="Speed only.")
    safety_identifier: _Name = Field(None, description="Identifies the end user.")
    service_tier: _Name = Field(None, description="Use `priority` of `/v1/jobs`.")
    store: bool | None = Field(None, description="Every answer is kept until its retention ends.")
    user: _Name = Field(None, description="Identifies the end user.")
    verbosity: Literal["low", "medium", "high"] | None = Field(
        None, description="A hint that models do not get."
    )


class ChatRequest(WithoutEffect, Structure, PromptOptions, Sampling):
    """A chat, checked."""

    model: Annotated[str, Field(min_length=1)] = Field(description="One of `/v1/models`.")
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)] = Field(
        description="The conversation, rendered by the model's own chat template."
    )
    stream: bool = Field(False, description="Answer with server-sent events.")
    stream_options: StreamOptions | None = Field(None, description="Options of the stream; needs `stream`.")
    metadata: Metadata | None = Field(
        None, description="Stored with the job. Names of up to 64 characters, values of up to 512."
    )

    @field_validator("stream_options")
    @classmethod
    def _needs_stream(cls, options: StreamOptions | None, info: Any) -> StreamOptions | None:
        if options is not None and info.data.get("stream") is False:
            raise ValueError("it is only allowed with 'stream': true")
        return options

    @model_validator(mode="after")
    def _shows_the_prompt_whole(self) -> ChatRequest:
        if self.stream and self.prompt_logprobs is not None:
            raise FieldFault("prompt_logprobs", "it is only allowed without 'stream': true")
        return self

    def request(self) -> GenerationRequest:
        """What is to be generated."""
        return GenerationRequest((self.prompt(self.messages),), self.n, self.sampling(), self.constraint())

    def view(self) -> dict[str, Any]:
        """How it is to be shown."""
        options = self.stream_options
        shown = {} if options is None else options.model_dump(exclude={"include_obfuscation"})
        return {name: True for name, is_wanted in shown.items() if is_wanted}


def read_chat(fields: dict[str, Any], *, prefix: str = "", ignored: list[str] | None = None) -> ChatRequest:
    """A chat from its JSON. A field that is null counts as not given. Raises RequestError (400).

    Unknown fields are dropped; their paths are added to `ignored`.
    """
    ignored = [] if ignored is None else ignored
    fields = drop_noop_fields(fields, ChatRequest, UNSUPPORTED, prefix)
    messages, options = fields.get("messages"), fields.get("stream_options")
    if isinstance(messages, list):
        fields["messages"] = [
            read_message(message, f"{prefix}messages[{index}]", ignored)
            for index, message in enumerate(messages)
        ]
    if isinstance(options, dict):
        fields["stream_options"] = drop_noop_fields(options, StreamOptions, {}, f"{prefix}stream_options.")
    if isinstance(outputs := fields.get("structured_outputs"), dict):
        fields["structured_outputs"] = drop_noop_structure(outputs, f"{prefix}structured_outputs.")
    return validate(ChatRequest, fields, prefix=prefix, ignored=ignored)
