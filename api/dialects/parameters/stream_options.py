"""Streamed: whether and how an answer is streamed, in the words of OpenAI's endpoints."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from api.dialects.unsupported import drop_noop_fields
from api.http.validation import Schema


class StreamOptions(Schema):
    """How a stream is sent."""

    include_usage: bool = Field(False, description="Send the usage in a last chunk.")
    continuous_usage_stats: bool = Field(
        False, description="With `include_usage`: send the usage so far in every chunk (vLLM)."
    )
    include_obfuscation: bool = Field(False, description="No effect: nothing is added to chunks.")


class Streamed(Schema):
    """Fields of a request that can be streamed."""

    stream: bool = Field(False, description="Answer with server-sent events.")
    stream_options: StreamOptions | None = Field(None, description="Options of the stream; needs `stream`.")

    @field_validator("stream_options")
    @classmethod
    def _needs_stream(cls, options: StreamOptions | None, info: Any) -> StreamOptions | None:
        if options is not None and info.data.get("stream") is False:
            raise ValueError("it is only allowed with 'stream': true")
        return options

    def view(self) -> dict[str, Any]:
        """How the stream is to be shown."""
        options = self.stream_options
        shown = {} if options is None else options.model_dump(exclude={"include_obfuscation"})
        return {name: True for name, is_wanted in shown.items() if is_wanted}


def drop_noop_stream_options(fields: dict[str, Any], prefix: str) -> None:
    """Drop null values from `stream_options` of a request, in place."""
    if isinstance(options := fields.get("stream_options"), dict):
        fields["stream_options"] = drop_noop_fields(options, StreamOptions, {}, f"{prefix}stream_options.")
