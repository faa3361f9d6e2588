"""StrictJson: bodies as RFC 8259 has them, with bounds. Python's reader alone takes NaN, lone surrogates
and any depth."""

from __future__ import annotations

import codecs
import json
import math
import re
from typing import Any, NoReturn

from shared.errors import RequestError, invalid_request

MAX_DEPTH = 64
#: Strings, and also brackets, commas and colons between them: what takes time is not a body's length but the
#: number of its values. These many are read, and refused one by one, in some 25 ms.
MAX_MARKS = 32_768
#: Digits of the longest integer: beyond them no field has a use for one.
_MAX_DIGITS = 40
#: A string, also one that does not end. Possessive: linear, whatever the input.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in a request's body. A name that occurs twice counts with its last value.

    Raises RequestError (400).
    """
    try:
        if raw.startswith(codecs.BOM_UTF8):
            raise ValueError("it begins with a byte order mark")
        _check_size(raw)
        text = raw.decode()
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_short)
        _check(value, text)
    except (ValueError, RecursionError) as error:
        raise _malformed(error) from error
    if not isinstance(value, dict):
        raise _malformed(ValueError("the top level is not an object"))
    return value


def _check_size(raw: bytes) -> None:
    if _num_marks(raw) <= MAX_MARKS:
        return
    between, num_strings = _STRING.subn(b"", raw, MAX_MARKS)
    if num_strings == MAX_MARKS or _num_marks(between) > MAX_MARKS:
        raise ValueError("it has too many values")


def _num_marks(raw: bytes) -> int:
    return sum(map(raw.count, (b"[", b"{", b",", b":")))


def _malformed(error: Exception) -> RequestError:
    why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    if isinstance(error, UnicodeDecodeError):
        why = "not UTF-8"
    return invalid_request(f"We could not parse the JSON body of your request: {why}.")


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is out of range")
    return value


def _short(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError("a number is out of range")
    return int(text)


def _check(value: Any, text: str) -> None:
    """Depth, surrogates and NUL. The walk is for those few bodies that may hold one of them."""
    is_escaped = "\\u" in text
    if not is_escaped and text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    level, depth = _containers([value]), 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        values = [child for one in level for child in (one.values() if isinstance(one, dict) else one)]
        if is_escaped:
            names = (name for one in level if isinstance(one, dict) for name in one)
            for string in (*names, *(child for child in values if isinstance(child, str))):
                _check_string(string)
        level = _containers(values)


def _containers(values: list[Any]) -> list[dict[str, Any] | list[Any]]:
    return [value for value in values if isinstance(value, dict | list)]


def _check_string(text: str) -> None:
    if "\0" in text:
        raise ValueError("a string holds NUL")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("a string holds half a surrogate pair") from error
