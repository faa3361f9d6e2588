"""Query: parameters of a query string."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from starlette.datastructures import QueryParams

from api.http.validation import unknown_parameter
from shared.errors import RequestError, invalid_value

#: Longest `?wait=`, in seconds.
MAX_WAIT_S = 300

Word = TypeVar("Word", bound=str)


def refuse_unknown(query: QueryParams, known: Iterable[str]) -> None:
    """Raises RequestError (400) for a parameter that the route does not have."""
    for name in query:
        if name not in known:
            raise unknown_parameter(name)


def read_seconds(name: str, text: str | None, *, most: float) -> float:
    """0 when it is not given. Raises RequestError (400)."""
    try:
        value = 0.0 if text is None else float(text)
    except ValueError as error:
        raise _invalid(name, f"a number of seconds from 0 to {most:g}") from error
    if not 0 <= value <= most:
        raise _invalid(name, f"a number of seconds from 0 to {most:g}")
    return value


def read_count(name: str, text: str | None, *, default: int, most: int) -> int:
    """Raises RequestError (400)."""
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise _invalid(name, f"an integer from 1 to {most}")
    return int(text)


def read_flag(name: str, text: str | None) -> bool:
    """False when it is not given. Raises RequestError (400)."""
    return read_word(name, text, ("true", "false")) == "true"


def read_word(name: str, text: str | None, words: Iterable[Word]) -> Word | None:
    """Raises RequestError (400)."""
    if text is None:
        return None
    for word in words:
        if word == text:
            return word
    raise _invalid(name, "one of " + ", ".join(sorted(words)))


def _invalid(name: str, expected: str) -> RequestError:
    return invalid_value(name, f"expected {expected}")
