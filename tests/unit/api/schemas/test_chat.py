"""A chat is read strictly: each fault is named, and what is kept is what the worker reads."""

from __future__ import annotations

from typing import Any

import pytest

from api.schemas.chat import read_chat
from api.schemas.unsupported import UNSUPPORTED
from shared.errors import RequestError

HELLO = [{"role": "user", "content": "hi"}]


def read(**fields: Any) -> dict[str, Any]:
    return read_chat({"model": "m", "messages": HELLO, **fields}).to_body()


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": ["hi"]}, "messages[0]", "invalid_type"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
        ({"messages": [*HELLO, {"role": "user", "content": [5]}]}, "messages[1].content[0]", "invalid_type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
            "invalid_value",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "tool_calls": [{}]}]},
            "messages[0].tool_calls",
            "unsupported_parameter",
        ),
        ({"messages": [{"role": "user", "content": "x", "foo": 1}]}, "messages[0].foo", "unknown_parameter"),
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": 5}, "model", "invalid_type"),
        ({"model": ""}, "model", "empty_string"),
        ({"max_tokens": "5"}, "max_tokens", "invalid_type"),
        ({"max_tokens": True}, "max_tokens", "invalid_type"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"max_tokens": -1}, "max_tokens", "integer_below_min_value"),
        ({"max_tokens": 2**63}, "max_tokens", "integer_above_max_value"),
        ({"max_completion_tokens": 0}, "max_completion_tokens", "integer_below_min_value"),
        ({"temperature": 2.0001}, "temperature", "decimal_above_max_value"),
        ({"temperature": -1}, "temperature", "decimal_below_min_value"),
        ({"temperature": 1e308}, "temperature", "decimal_above_max_value"),
        ({"temperature": "1"}, "temperature", "invalid_type"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"top_p": 0}, "top_p", "decimal_below_min_value"),
        ({"top_p": 1.1}, "top_p", "decimal_above_max_value"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"n": 1_000_000_000}, "n", "integer_above_max_value"),
        ({"seed": 2**64}, "seed", "integer_above_max_value"),
        ({"stop": ""}, "stop", "invalid_value"),
        ({"stop": [""]}, "stop[0]", "empty_string"),
        ({"stop": ["a"] * 5}, "stop", "array_above_max_length"),
        ({"stop": ["a" * 1025]}, "stop[0]", "string_above_max_length"),
        ({"stop": 5}, "stop", "invalid_type"),
        ({"stream": 1}, "stream", "invalid_type"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"stream": True, "stream_options": {"foo": 1}}, "stream_options.foo", "unknown_parameter"),
        ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a", "string_above_max_length"),
        ({"metadata": {str(k): "" for k in range(17)}}, "metadata", "object_above_max_length"),
        ({"foo": 1}, "foo", "unknown_parameter"),
        ({"chat_template": "x"}, "chat_template", "unknown_parameter"),
    ],
)
def test_each_fault_is_named(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(**fields)
    assert (caught.value.info.param, caught.value.info.code) == (param, code)
    assert caught.value.info.status == 400


@pytest.mark.parametrize("name", sorted(UNSUPPORTED))
def test_a_field_that_is_not_honoured_is_refused_by_name(name: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(**{name: "x"})
    assert (caught.value.info.param, caught.value.info.code) == (name, "unsupported_parameter")
    assert read(**{name: None}) == read()


def test_values_without_effect_are_accepted() -> None:
    assert read(frequency_penalty=0, logprobs=False, response_format={"type": "text"}) == read()
    with pytest.raises(RequestError):
        read(frequency_penalty=False)


def test_what_is_kept() -> None:
    asked = read(
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ],
        max_completion_tokens=5,
        temperature=1,
        top_p=0.5,
        seed=-1,
        stop="x",
        n=2,
        stream=True,
        stream_options={"include_usage": True},
        user="u",
        store=False,
        metadata={"a": "b"},
    )
    assert asked == {
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "a\nb"}],
        "n": 2,
        "max_tokens": 5,
        "temperature": 1.0,
        "top_p": 0.5,
        "seed": 2**63 - 1,
        "stop": ["x"],
        "stream_options": {"include_usage": True},
    }
    assert read() == {"messages": HELLO, "n": 1}
