"""workers.engine.constraints.finite_schema."""

from __future__ import annotations

import re
from typing import Any

import pytest

from workers.engine.constraints.finite_schema import InfiniteSchema, finite_schema

_ENDLESS = {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"$ref": "#"}, "#"),
        ({"$ref": "#/$defs/n", "$defs": {"n": _ENDLESS}}, "#/$defs/n"),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
            "#/$defs/a",
        ),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "#"),
        ({"type": "array", "prefixItems": [{"$ref": "#"}], "minItems": 1}, "#"),
        ({"anyOf": [{"$ref": "#"}, {"allOf": [{"$ref": "#"}, {}]}]}, "#"),
        ({"type": "object", "additionalProperties": {"$ref": "#"}, "required": ["x/y"]}, "#"),
    ],
)
def test_a_schema_that_only_an_endless_text_matches_is_refused(schema: dict[str, Any], path: str) -> None:
    with pytest.raises(InfiniteSchema, match=re.escape(f"matches the schema: {path} requires itself")):
        finite_schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"type": "object", "properties": {"n": {"$ref": "#"}}},
        {"type": "array", "items": {"$ref": "#"}},
        {
            "anyOf": [
                {"type": "null"},
                {"type": "object", "properties": {"n": {"$ref": "#"}}, "required": ["n"]},
            ]
        },
        {"type": ["object", "null"], "properties": {"n": {"$ref": "#"}}, "required": ["n"]},
        {"$ref": "#/$defs/unknown"},
        {"properties": {"a": {}}, "patternProperties": {"^b": {}, "(": {}}},
    ],
)
def test_another_schema_stays_as_it_is(schema: Any) -> None:
    before = repr(schema)
    assert repr(finite_schema(schema)) == before


def test_a_part_that_is_endless_becomes_false() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"n": {"$ref": "#/$defs/n"}, "x": {}},
        "$defs": {"n": _ENDLESS},
    }
    assert finite_schema(schema)["properties"] == {"n": False, "x": {}}


def test_a_pattern_that_matches_a_named_property_is_refused() -> None:
    schema: dict[str, Any] = {"items": {"properties": {"score": {}}, "patternProperties": {"^sc/?": {}}}}
    with pytest.raises(
        InfiniteSchema, match=r"^#/items/patternProperties/\^sc~1\? also matches the property 'score'"
    ):
        finite_schema(schema)
