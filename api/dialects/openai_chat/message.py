"""Message: one message of a conversation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from api.dialects.openai_chat.unsupported import UNSUPPORTED_IN_MESSAGE, drop_noop_fields
from api.http.validation import Schema, validate
from shared.errors import invalid_request, invalid_value


class TextPart(Schema):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


_PARTS = {"type": "array", "items": TextPart.model_json_schema()}
#: Parts are joined to lines before this is checked.
_Content = Annotated[str, WithJsonSchema({"anyOf": [{"type": "string"}, _PARTS]})]


class Message(Schema):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"] = Field(
        description="`developer` is `system` to the model."
    )
    content: _Content = Field(description="Text, or an array of text parts, which are joined as lines.")

    def to_body(self) -> dict[str, str]:
        """As it is stored. Chat templates know `system`; `developer` is OpenAI's newer word for it."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.content}


def read_message(message: Any, path: str) -> Any:
    """A message with its parts as one text. Raises RequestError (400)."""
    if not isinstance(message, dict):
        return message
    message = drop_noop_fields(message, Message, UNSUPPORTED_IN_MESSAGE, f"{path}.")
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
        raise invalid_value(f"{path}.type", "this model reads text only")
    return validate(TextPart, part, prefix=f"{path}.").text
