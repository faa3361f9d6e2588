"""Faults that would cost time are found before pydantic looks at each member."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import Field

from api.http.validation import Schema, validate
from shared.errors import ErrorInfo, RequestError


class Example(Schema):
    """A field of each kind."""

    numbers: Annotated[list[int], Field(max_length=2)] | None = None
    names: Annotated[dict[str, str], Field(max_length=1)] | None = None


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"numbers": ["x"] * 3}, "p.numbers", "array_above_max_length"),
        ({"names": {"a": 1, "b": 2}}, "p.names", "object_above_max_length"),
        ({"numbers": ["x"] * 3, "other": 1}, "p.other", "unknown_parameter"),
        ({"x" * 5000: 1}, "p." + "x" * 198 + "…", "unknown_parameter"),
        ({"numbers": ["x"]}, "p.numbers[0]", "invalid_type"),
    ],
)
def test_the_first_fault_is_named(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        validate(Example, fields, prefix="p.")
    message = caught.value.info.message
    assert caught.value.info == ErrorInfo(message, "invalid_request_error", param, code, 400)


class Outer(Schema):
    """Objects within."""

    one: Example | None = None
    many: list[Example] | None = None
    free: dict[str, Any] | None = None


def test_unknown_fields_are_dropped_at_every_depth_and_named() -> None:
    ignored: list[str] = []
    fields = {"one": {"a": 1, "numbers": [1]}, "many": [{}, {"b": 1}], "free": {"c": 1}, "d": 1}
    found = validate(Outer, fields, prefix="p.", ignored=ignored)
    assert found == Outer(one=Example(numbers=[1]), many=[Example(), Example()], free={"c": 1})
    assert ignored == ["p.one.a", "p.many[1].b", "p.d"]


def test_they_are_refused_where_nobody_asks_for_their_names() -> None:
    with pytest.raises(RequestError) as caught:
        validate(Outer, {"many": [{}, {"b": 1}]})
    assert (caught.value.info.param, caught.value.info.code) == ("many[1].b", "unknown_parameter")


def test_what_is_within_its_lengths_is_read() -> None:
    assert validate(Example, {"numbers": [1, 2], "names": {"a": "b"}}).numbers == [1, 2]
