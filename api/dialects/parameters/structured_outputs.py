"""Structure: what the text of an answer has to be, in a client's words.

OpenAI's `response_format` (https://platform.openai.com/docs/guides/structured-outputs) and vLLM's
`structured_outputs` (https://docs.vllm.ai/en/stable/features/structured_outputs.html). Only the worker's grammar
library can tell whether a schema or a grammar is valid; here its length is checked and it is passed on as text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from api.dialects.unsupported import Refused, drop_noop_fields, vllm
from api.http.strict_json import parse_object
from api.http.validation import FieldFault, Schema
from shared.domain.constraint import Constraint, ConstraintKind
from shared.errors import RequestError

#: Characters of a schema, an expression, a grammar, or of all choices together.
MAX_TEXT = 65_536
_MAX_CHOICES = 1024
_ANY_OBJECT = '{"type":"object"}'

#: Fields of `structured_outputs` that are refused by name.
UNSUPPORTED_IN_STRUCTURED_OUTPUTS: Mapping[str, Refused] = {
    "disable_additional_properties": vllm(False, note="Use `additionalProperties: false` in the schema."),
    "disable_any_whitespace": vllm(False, note="There is at most one line break or space between parts."),
    "disable_fallback": vllm(True),
    "structural_tag": vllm(),
    "whitespace_pattern": vllm(),
}

_Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
_Choices = Annotated[list[_Text], Field(min_length=1, max_length=_MAX_CHOICES)]


def _read_text(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    try:
        return parse_object(given.encode())
    except RequestError as error:
        raise ValueError("it is not a JSON object") from error


_SchemaOrText = Annotated[dict[str, Any], BeforeValidator(_read_text, str | dict[str, Any])]


class NamedSchema(Schema):
    """A JSON schema with a name."""

    name: Annotated[str, StringConstraints(pattern=r"\A[a-zA-Z0-9_-]{1,64}\z")] = Field(
        description="Letters, digits, `_` and `-`."
    )
    description: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        None, description="Not shown to the model."
    )
    schema_: dict[str, Any] | None = Field(
        None, alias="schema", description=f"At most {MAX_TEXT} characters. Default: any object."
    )
    strict: bool | None = Field(None, description="No effect: every schema is enforced.")


class ResponseFormat(Schema):
    """OpenAI's format."""

    type: Literal["text", "json_object", "json_schema"] = Field(description="Type of the answer.")
    json_schema: NamedSchema | None = Field(
        None, description="Only with the type `json_schema`, which needs it."
    )

    @model_validator(mode="after")
    def _has_its_schema(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            why = "it is required with the type 'json_schema' and not allowed with others"
            raise FieldFault("response_format.json_schema", why)
        return self

    def constraint(self) -> Constraint | None:
        """Raises FieldFault."""
        if self.type == "text":
            return None
        if self.json_schema is None or self.json_schema.schema_ is None:
            return Constraint("json_schema", _ANY_OBJECT, "response_format")
        return _constraint("json_schema", self.json_schema.schema_, "response_format.json_schema.schema")


class StructuredOutputs(Schema):
    """vLLM's format; exactly one member is given."""

    json_: _SchemaOrText | None = Field(
        None, alias="json", description="A JSON schema, as an object or as text."
    )
    regex: _Text | None = Field(None, description="A regular expression that the whole text must match.")
    choice: _Choices | None = Field(None, description="The text must be one of these.")
    grammar: _Text | None = Field(
        None, description="A context-free grammar, in Lark's format or in GBNF (`root ::= …`)."
    )
    json_object: Literal[True] | None = Field(None, description="Any JSON object.")

    @model_validator(mode="after")
    def _is_one(self) -> StructuredOutputs:
        if len(self.model_fields_set) != 1:
            names = ", ".join(field.alias or name for name, field in type(self).model_fields.items())
            raise FieldFault("structured_outputs", f"it must have exactly one of {names}")
        return self

    def constraint(self) -> Constraint:
        """Raises FieldFault."""
        if self.json_object:
            return Constraint("json_schema", _ANY_OBJECT, "structured_outputs")
        if self.json_ is not None:
            return _constraint("json_schema", self.json_, "structured_outputs.json")
        if self.choice is not None:
            return _constraint("choice", self.choice, "structured_outputs.choice")
        if self.regex is not None:
            return Constraint("regex", self.regex, "structured_outputs.regex")
        assert self.grammar is not None
        return Constraint("grammar", self.grammar, "structured_outputs.grammar")


class Structure(Schema):
    """Both; a request has one of them."""

    response_format: ResponseFormat | None = Field(
        None,
        description="`json_schema`: the answer must match the schema; `json_object`: it must be a JSON object.",
    )
    structured_outputs: StructuredOutputs | None = Field(
        None, description="One of `json`, `regex`, `choice`, `grammar`, `json_object`."
    )

    @model_validator(mode="after")
    def _fits_together_as_one(self) -> Structure:
        is_formatted = self.response_format is not None and self.response_format.type != "text"
        if is_formatted and self.structured_outputs is not None:
            raise FieldFault("structured_outputs", "it excludes 'response_format'")
        self.constraint()
        return self

    def constraint(self) -> Constraint | None:
        """None: any text."""
        asked = self.structured_outputs or self.response_format
        return None if asked is None else asked.constraint()


def drop_noop_structure(fields: dict[str, Any], prefix: str) -> None:
    """Drop null and default values from `structured_outputs` of a request, in place. Raises RequestError."""
    if isinstance(outputs := fields.get("structured_outputs"), dict):
        fields["structured_outputs"] = drop_noop_fields(
            outputs, StructuredOutputs, UNSUPPORTED_IN_STRUCTURED_OUTPUTS, f"{prefix}structured_outputs."
        )


def _constraint(kind: ConstraintKind, value: Any, field: str) -> Constraint:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if len(text) > MAX_TEXT:
        raise FieldFault(field, f"it has more than {MAX_TEXT} characters")
    return Constraint(kind, text, field)
