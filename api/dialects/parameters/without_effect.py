"""Fields of vLLM's endpoints that are accepted and change nothing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.http.validation import Schema

_Name = Annotated[str, Field(max_length=512)] | None
_NO_MEDIA = "The model reads text only."


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
