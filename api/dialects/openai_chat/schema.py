"""ChatRequest: the body of `/v1/chat/completions` (https://platform.openai.com/docs/api-reference/chat/create)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from api.dialects.openai_chat.message import Message, read_message
from api.dialects.openai_chat.prompting import PromptOptions
from api.dialects.openai_chat.unsupported import UNSUPPORTED
from api.dialects.parameters.metadata import Metadata
from api.dialects.parameters.sampling import Limit, Sampling
from api.dialects.parameters.stream_options import Streamed, drop_noop_stream_options
from api.dialects.parameters.structured_outputs import Structure, drop_noop_structure
from api.dialects.parameters.without_effect import VllmWithoutEffect
from api.dialects.unsupported import drop_noop_fields
from api.http.validation import FieldFault, validate
from shared.domain.request import GenerationRequest

MAX_MESSAGES = 4096
_Name = Annotated[str, Field(max_length=512)] | None


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


class ChatRequest(WithoutEffect, Streamed, Structure, PromptOptions, Sampling):
    """A chat, checked."""

    model: Annotated[str, Field(min_length=1)] = Field(description="One of `/v1/models`.")
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)] = Field(
        description="The conversation, rendered by the model's own chat template."
    )
    max_completion_tokens: Limit = Field(
        None, description="The newer name of `max_tokens`; used if both are given."
    )
    logprobs: bool | None = Field(
        None, description="Return the log probability of each token, before temperature, penalties and bias."
    )
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description="Number of most likely tokens to return at each position; needs `logprobs`."
    )
    metadata: Metadata | None = Field(
        None, description="Stored with the job. Names of up to 64 characters, values of up to 512."
    )

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def num_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    @model_validator(mode="after")
    def _has_logprobs(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            raise FieldFault("top_logprobs", "it is only allowed with 'logprobs': true")
        return self

    @model_validator(mode="after")
    def _shows_the_prompt_whole(self) -> ChatRequest:
        if self.stream and self.prompt_logprobs is not None:
            raise FieldFault("prompt_logprobs", "it is only allowed without 'stream': true")
        return self

    def request(self) -> GenerationRequest:
        """What is to be generated."""
        return GenerationRequest((self.prompt_of(self.messages),), self.n, self.sampling(), self.constraint())


def read_chat(fields: dict[str, Any], *, prefix: str = "", ignored: list[str] | None = None) -> ChatRequest:
    """A chat from its JSON. A field that is null counts as not given. Raises RequestError (400).

    Unknown fields are dropped; their paths are added to `ignored`.
    """
    ignored = [] if ignored is None else ignored
    fields = drop_noop_fields(fields, ChatRequest, UNSUPPORTED, prefix)
    if isinstance(messages := fields.get("messages"), list):
        fields["messages"] = [
            read_message(message, f"{prefix}messages[{index}]", ignored)
            for index, message in enumerate(messages)
        ]
    drop_noop_stream_options(fields, prefix)
    drop_noop_structure(fields, prefix)
    return validate(ChatRequest, fields, prefix=prefix, ignored=ignored)
