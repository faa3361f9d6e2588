"""Request bodies: JSON as RFC 8259 defines it, read by msgspec, with bounds on depth and on the number of values."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from shared.errors import RequestError, invalid_request

MAX_DEPTH = 64
#: Strings, and brackets, commas and colons between them: what takes time is not a body's length but the number of its
#: values. This many are read, and refused one by one, in some 25 ms.
MAX_MARKS = 32_768
#: A string, also one that does not end. Possessive: linear, whatever the input.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in a request's body. A name that occurs twice counts with its last value.

    Raises RequestError (400).
    """
    try:
        _check_size(raw)
        value = msgspec.json.decode(raw)
        _check(value, raw)
    except msgspec.MsgspecError as error:
        raise _malformed(str(error).partition(" - at")[0]) from error
    except UnicodeDecodeError as error:
        raise _malformed("it is not UTF-8") from error
    except RecursionError as error:
        raise _malformed("it is nested too deeply") from error
    except ValueError as error:
        raise _malformed(str(error)) from error
    if not isinstance(value, dict):
        raise _malformed("the top level is not an object")
    return value


def _check_size(raw: bytes) -> None:
    if _num_marks(raw) <= MAX_MARKS:
        return
    between, num_strings = _STRING.subn(b"", raw, MAX_MARKS)
    if num_strings == MAX_MARKS or _num_marks(between) > MAX_MARKS:
        raise ValueError("it has too many values")


def _num_marks(raw: bytes) -> int:
    return sum(map(raw.count, (b"[", b"{", b",", b":")))


def _malformed(why: str) -> RequestError:
    return invalid_request(f"We could not parse the JSON body of your request: {why}.")


def _check(value: Any, raw: bytes) -> None:
    """Depth and NUL. The walk is for those few bodies that may have too much of the one, or the other."""
    may_hold_nul = b"\\u0000" in raw
    if not may_hold_nul and raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return
    level, depth = _containers([value]), 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        values = [child for one in level for child in (one.values() if isinstance(one, dict) else one)]
        if may_hold_nul:
            names = [name for one in level if isinstance(one, dict) for name in one]
            if any("\0" in text for text in (*names, *values) if isinstance(text, str)):
                raise ValueError("a string holds NUL")
        level = _containers(values)


def _containers(values: list[Any]) -> list[dict[str, Any] | list[Any]]:
    return [value for value in values if isinstance(value, dict | list)]
