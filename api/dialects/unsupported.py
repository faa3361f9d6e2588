"""Unsupported: known fields that would change the answer and are not supported. They are refused by name.

A value that asks for the default behaviour is accepted, because clients send some of them with every request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from api.http.validation import Schema, names_of
from shared.errors import RequestError, invalid_request

Origin = Literal["OpenAI", "vLLM", "Baton"]


@dataclass(frozen=True, slots=True)
class Refused:
    """A field that is refused."""

    origin: Origin = "OpenAI"
    #: Values that ask for the default behaviour.
    idle: tuple[Any, ...] = ()
    #: Why, or what to use instead.
    note: str = ""


def vllm(*idle: Any, note: str = "") -> Refused:
    """A field of vLLM's that is refused."""
    return Refused("vLLM", idle, note)


def drop_noop_fields(
    fields: dict[str, Any], schema: type[Schema], unsupported: Mapping[str, Refused], prefix: str
) -> dict[str, Any]:
    """The fields without known ones that are null, and without unsupported ones that ask for the default behaviour.

    Raises RequestError for any other unsupported one.
    """
    kept: dict[str, Any] = {}
    for name, value in fields.items():
        if name in unsupported:
            if value is not None and not any(_is_same(value, idle) for idle in unsupported[name].idle):
                raise _refusal(prefix + name, unsupported[name].note)
        elif value is not None or name not in names_of(schema):
            kept[name] = value
    return kept


def _refusal(param: str, note: str) -> RequestError:
    message = f"Unsupported parameter: '{param}' is not supported by this server. {note}".rstrip()
    return invalid_request(message, param=param, code="unsupported_parameter")


def _is_same(value: Any, idle: Any) -> bool:
    # In Python 0 == False: compare booleans with booleans only.
    return bool(value == idle) and isinstance(value, bool) == isinstance(idle, bool)
