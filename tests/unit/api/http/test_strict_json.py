"""Bodies are JSON, and nothing that Python's reader takes beyond it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.strict_json import MAX_DEPTH, MAX_MARKS, parse_object
from shared.errors import RequestError


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b'{"a":',
        b"{'a':1}",
        b"[]",
        b'"x"',
        b"null",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"\\ud800"}',
        b'{"\\udfff":1}',
        b'{"a":["\\ud800\\ud800"]}',
        b'{"a":"\\u0000"}',
        b'{"a":"\x00"}',
        b'{"a":"\xff"}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":1}{}',
        b"[" * 10_000,
        b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
    ],
)
def test_what_is_not_an_object_of_json_is_refused(raw: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        parse_object(raw)
    assert (caught.value.info.status, caught.value.info.code) == (400, None)
    assert "could not parse the JSON body" in caught.value.info.message


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":[' + b"0," * MAX_MARKS + b"0]}",
        b'{"a":' * MAX_MARKS,
        b'{"a":[' + b'"",' * MAX_MARKS + b'""]}',
        b'""' * MAX_MARKS + b"," * (MAX_MARKS + 1),
        b"[" * 1_000_000,
    ],
)
def test_too_many_values_are_refused_unread(raw: bytes) -> None:
    with pytest.raises(RequestError, match="too many values"):
        parse_object(raw)


def test_marks_within_strings_are_text() -> None:
    text = '[{,:"\\' * MAX_MARKS
    assert parse_object(json.dumps({"a": text}).encode()) == {"a": text}
    for unfinished in (b'{"a":"' + b'\\",' * MAX_MARKS, b'{"a":"' + b"," * MAX_MARKS + b"\\"):
        with pytest.raises(RequestError, match="truncated"):
            parse_object(unfinished)


def test_what_is_allowed() -> None:
    deep = b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}"
    assert parse_object(deep)
    assert parse_object(b'{"a":1,"a":2}') == {"a": 2}
    assert parse_object(b'{"a":"\\ud83d\\ude00"}') == {"a": "😀"}
    assert parse_object(b'{"a":"' + b"[{" * 100 + b'"}') == {"a": "[{" * 100}
    assert parse_object(b'{"a":1.5e3,"b":[true,null]}') == {"a": 1500.0, "b": [True, None]}


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        assert isinstance(parse_object(raw), dict)
    except RequestError as error:
        assert error.info.status == 400
