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


def test_what_is_within_its_lengths_is_read() -> None:
    assert validate(Example, {"numbers": [1, 2], "names": {"a": "b"}}).numbers == [1, 2]
