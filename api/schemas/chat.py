"""ChatRequest: the body of `/v1/chat/completions` (https://platform.openai.com/docs/api-reference/chat/create)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, field_validator

from api.schemas.unsupported import UNSUPPORTED, UNSUPPORTED_IN_MESSAGE, without_idle
from api.schemas.validation import Schema, validate
from shared.errors import invalid_request

MAX_CHOICES = 8
MAX_MESSAGES = 4096
#: Largest seed: 63 bits, as SamplingParams has them.
_SEED_BITS = 63
_INT64 = 2**63


def _as_list(value: Any) -> Any:
    if value == "":
        raise ValueError("it must not be empty")
    return [value] if isinstance(value, str) else value


#: 16 pairs, names of 64 characters, values of 512.
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
    Field(max_length=16),
]


class TextPart(Schema):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class Message(Schema):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str


class StreamOptions(Schema):
    """How a stream is sent."""

    include_usage: bool = False


class ChatRequest(Schema):
    """A chat, checked. `user` and `store` are accepted and ignored."""

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64)] | None = None
    stop: (
        Annotated[
            list[Annotated[str, StringConstraints(min_length=1, max_length=1024)]],
            BeforeValidator(_as_list),
            Field(max_length=4),
        ]
        | None
    ) = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    metadata: Metadata | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    store: bool | None = None

    @field_validator("stream_options")
    @classmethod
    def _needs_stream(cls, options: StreamOptions | None, info: Any) -> StreamOptions | None:
        if options is not None and info.data.get("stream") is False:
            raise ValueError("it is only allowed with 'stream': true")
        return options

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def to_body(self) -> dict[str, Any]:
        """What is stored in the job, for `workers/resolver.py` and for those who take the stream up again."""
        body: dict[str, Any] = {"messages": [_stored(message) for message in self.messages], "n": self.n}
        given = {
            "max_tokens": self.max_completion_tokens or self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "stop": self.stop,
        }
        body |= {name: value for name, value in given.items() if value is not None}
        if self.seed is not None:
            body["seed"] = self.seed % 2**_SEED_BITS
        if self.include_usage:
            body["stream_options"] = {"include_usage": True}
        return body


def _stored(message: Message) -> dict[str, str]:
    # Chat templates know `system`; `developer` is OpenAI's newer word for it.
    role = "system" if message.role == "developer" else message.role
    return {"role": role, "content": message.content}


def read_chat(fields: dict[str, Any], *, prefix: str = "") -> ChatRequest:
    """A chat from its JSON. Raises RequestError (400). A field that is null counts as not given."""
    fields = without_idle(fields, ChatRequest, UNSUPPORTED, prefix)
    messages = fields.get("messages")
    if isinstance(messages, list):
        fields["messages"] = [
            _read_message(message, f"{prefix}messages[{index}]") for index, message in enumerate(messages)
        ]
    return validate(ChatRequest, fields, prefix=prefix)


def _read_message(message: Any, path: str) -> Any:
    if not isinstance(message, dict):
        return message
    message = without_idle(message, Message, UNSUPPORTED_IN_MESSAGE, f"{path}.")
    content = message.get("content")
    if isinstance(content, list):
        message["content"] = "\n".join(
            _read_part(part, f"{path}.content[{index}]") for index, part in enumerate(content)
        )
    return message


def _read_part(part: Any, path: str) -> str:
    if not isinstance(part, dict):
        message = f"Invalid type for '{path}': expected an object."
        raise invalid_request(message, param=path, code="invalid_type")
    if isinstance(part.get("type"), str) and part["type"] != "text":
        raise invalid_request(
            f"Invalid value for '{path}.type': this model reads text only.",
            param=f"{path}.type",
            code="invalid_value",
        )
    return validate(TextPart, part, prefix=f"{path}.").text
