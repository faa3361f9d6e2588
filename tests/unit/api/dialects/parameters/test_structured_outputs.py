"""What an answer has to be is read strictly, and handed on as text."""

from __future__ import annotations

from typing import Any

import pytest

from api.dialects.openai_chat.schema import read_chat
from api.dialects.parameters.structured_outputs import MAX_TEXT, UNSUPPORTED_IN_STRUCTURED_OUTPUTS
from shared.domain.constraint import Constraint
from shared.errors import RequestError

OBJECT = '{"type":"object"}'
SCHEMA = {"type": "object", "properties": {"ä": {"type": "integer"}}}
FORMAT = "response_format"
OUTPUTS = "structured_outputs"


def read(**fields: Any) -> Constraint | None:
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return read_chat(asked).request().constraint


def schema(schema: Any, **others: Any) -> dict[str, Any]:
    return {FORMAT: {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, **others}}}


def outputs(**fields: Any) -> dict[str, Any]:
    return {OUTPUTS: fields}


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({FORMAT: {"type": "text"}}, None),
        ({FORMAT: {"type": "text", "json_schema": None}}, None),
        ({FORMAT: {"type": "json_object"}}, ("json_schema", OBJECT, FORMAT)),
        (
            schema(SCHEMA, strict=True, description="d"),
            (
                "json_schema",
                '{"type":"object","properties":{"ä":{"type":"integer"}}}',
                f"{FORMAT}.json_schema.schema",
            ),
        ),
        ({FORMAT: {"type": "json_schema", "json_schema": {"name": "x"}}}, ("json_schema", OBJECT, FORMAT)),
        (outputs(json={}), ("json_schema", "{}", f"{OUTPUTS}.json")),
        (outputs(json='{ "type": "null" }'), ("json_schema", '{"type":"null"}', f"{OUTPUTS}.json")),
        (outputs(regex="a|b"), ("regex", "a|b", f"{OUTPUTS}.regex")),
        (outputs(choice=["a", 'b"']), ("choice", '["a","b\\""]', f"{OUTPUTS}.choice")),
        (outputs(grammar='start: "a"', regex=None), ("grammar", 'start: "a"', f"{OUTPUTS}.grammar")),
        (outputs(json_object=True), ("json_schema", OBJECT, OUTPUTS)),
        ({FORMAT: {"type": "text"}, **outputs(regex="a")}, ("regex", "a", f"{OUTPUTS}.regex")),
    ],
)
def test_it_is_a_constraint_of_the_request(fields: dict[str, Any], kept: Any) -> None:
    assert read(**fields) == (None if kept is None else Constraint(*kept))


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({FORMAT: 5}, FORMAT, "invalid_type"),
        ({FORMAT: {}}, f"{FORMAT}.type", "missing_required_parameter"),
        ({FORMAT: {"type": "xml"}}, f"{FORMAT}.type", "invalid_value"),
        ({FORMAT: {"type": "json_schema"}}, f"{FORMAT}.json_schema", "invalid_value"),
        ({FORMAT: {"type": "text", "json_schema": {"name": "x"}}}, f"{FORMAT}.json_schema", "invalid_value"),
        (schema([]), f"{FORMAT}.json_schema.schema", "invalid_type"),
        (schema({}, name="a b"), f"{FORMAT}.json_schema.name", "invalid_value"),
        (schema({}, name="a\n"), f"{FORMAT}.json_schema.name", "invalid_value"),
        (schema({}, strict="yes"), f"{FORMAT}.json_schema.strict", "invalid_type"),
        (schema({"title": "x" * MAX_TEXT}), f"{FORMAT}.json_schema.schema", "invalid_value"),
        ({OUTPUTS: "a"}, OUTPUTS, "invalid_type"),
        (outputs(), OUTPUTS, "invalid_value"),
        (outputs(regex="a", choice=["a"]), OUTPUTS, "invalid_value"),
        (outputs(foo=1), OUTPUTS, "invalid_value"),
        (outputs(json=5), f"{OUTPUTS}.json", "invalid_type"),
        (outputs(json="5"), f"{OUTPUTS}.json", "invalid_value"),
        (outputs(json="["), f"{OUTPUTS}.json", "invalid_value"),
        (outputs(json="[" * 100_000), f"{OUTPUTS}.json", "invalid_value"),
        (outputs(regex=""), f"{OUTPUTS}.regex", "empty_string"),
        (outputs(regex="x" * (MAX_TEXT + 1)), f"{OUTPUTS}.regex", "string_above_max_length"),
        (outputs(choice=[]), f"{OUTPUTS}.choice", "empty_array"),
        (outputs(choice=["a"] * 1025), f"{OUTPUTS}.choice", "array_above_max_length"),
        (outputs(choice=["x" * 100] * 1000), f"{OUTPUTS}.choice", "invalid_value"),
        (outputs(choice=["a", ""]), f"{OUTPUTS}.choice[1]", "empty_string"),
        (outputs(choice=["a", 5]), f"{OUTPUTS}.choice[1]", "invalid_type"),
        (outputs(grammar=5), f"{OUTPUTS}.grammar", "invalid_type"),
        (outputs(json_object=False), f"{OUTPUTS}.json_object", "invalid_value"),
        ({FORMAT: {"type": "json_object"}, **outputs(regex="a")}, OUTPUTS, "invalid_value"),
    ],
)
def test_each_fault_is_named(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(**fields)
    assert (caught.value.info.param, caught.value.info.code) == (param, code)


@pytest.mark.parametrize("name", UNSUPPORTED_IN_STRUCTURED_OUTPUTS)
def test_what_is_not_honoured_is_refused_by_name(name: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(**outputs(regex="a", **{name: "x"}))
    assert (caught.value.info.param, caught.value.info.code) == (f"{OUTPUTS}.{name}", "unsupported_parameter")
    for idle in (None, *UNSUPPORTED_IN_STRUCTURED_OUTPUTS[name].idle):
        assert read(**outputs(regex="a", **{name: idle})) == read(**outputs(regex="a"))
