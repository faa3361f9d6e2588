"""Message: one message of a conversation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, WithJsonSchema

from api.dialects.openai_chat.unsupported import UNSUPPORTED_IN_MESSAGE
from api.dialects.unsupported import drop_noop_fields
from api.http.validation import Schema, validate
from shared.domain.request import ChatMessage
from shared.errors import invalid_request, invalid_value


class TextPart(Schema):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


_PARTS = {"type": "array", "items": TextPart.model_json_schema()}
#: Parts are joined into one text before this is checked.
_Content = Annotated[str, WithJsonSchema({"anyOf": [{"type": "string"}, _PARTS]})]


class MessageWithoutEffect(Schema):
    """Fields of answers that clients send back."""

    annotations: list[Any] | None = Field(None, description="Not shown to the model.")
    reasoning_content: str | None = Field(
        None, description="Reasoning of earlier turns is not shown to the model."
    )
    reasoning: str | None = Field(None, description="Reasoning of earlier turns is not shown to the model.")


class Message(MessageWithoutEffect):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"] = Field(
        description="The model sees `developer` as `system`."
    )
    content: _Content = Field(
        description="A string, or an array of text parts, which are joined with line breaks."
    )
    name: Annotated[str, StringConstraints(max_length=512)] | None = Field(
        None, description="The participant's name, if the model's chat template supports `name`."
    )

    def parsed(self) -> ChatMessage:
        """Chat templates know `system`; `developer` is OpenAI's newer word for it."""
        return ChatMessage("system" if self.role == "developer" else self.role, self.content, self.name)


def read_message(message: Any, path: str, ignored: list[str]) -> Any:
    """A message with its parts joined into one text. Raises RequestError (400)."""
    if not isinstance(message, dict):
        return message
    message = drop_noop_fields(message, Message, UNSUPPORTED_IN_MESSAGE, f"{path}.")
    content = message.get("content")
    if isinstance(content, list):
        message["content"] = "\n".join(
            [_read_part(part, f"{path}.content[{index}]", ignored) for index, part in enumerate(content)]
        )
    return message


def _read_part(part: Any, path: str, ignored: list[str]) -> str:
    if not isinstance(part, dict):
        message = f"Invalid type for '{path}': expected an object."
        raise invalid_request(message, param=path, code="invalid_type")
    if isinstance(part.get("type"), str) and part["type"] != "text":
        raise invalid_value(f"{path}.type", "this model reads text only")
    return validate(TextPart, part, prefix=f"{path}.", ignored=ignored).text
