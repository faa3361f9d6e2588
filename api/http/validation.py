"""Validation: reads JSON objects by pydantic schemas, with faults as OpenAI's errors."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from shared.errors import RequestError, invalid_request

Model = TypeVar("Model", bound="Schema")

#: Characters of a parameter's name that an error shows.
_MAX_SHOWN = 200

_TYPE_NAMES = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_BOUNDS = {
    "greater_than": ("below_min_value", "below minimum value", ">", "gt"),
    "greater_than_equal": ("below_min_value", "below minimum value", ">=", "ge"),
    "less_than": ("above_max_value", "above maximum value", "<", "lt"),
    "less_than_equal": ("above_max_value", "above maximum value", "<=", "le"),
}
_LENGTHS = {
    "too_short": ("array", "min_length", "below_min"),
    "too_long": ("array", "max_length", "above_max"),
    "string_too_short": ("string", "min_length", "below_min"),
    "string_too_long": ("string", "max_length", "above_max"),
}


class FieldFault(ValueError):
    """Raised by a validator that knows better than pydantic which field is at fault."""

    def __init__(self, param: str, why: str) -> None:
        super().__init__(why)
        self.param = param


class Schema(BaseModel):
    """A request's object. No value is converted; unknown fields are refused here and dropped by `validate`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def validate(
    model: type[Model], fields: dict[str, Any], *, prefix: str = "", ignored: list[str] | None = None
) -> Model:
    """Read `fields` as `model`. Raises RequestError (400) that names the first fault.

    With `ignored`, unknown fields are dropped, also those of objects within, and their paths are added to the list.
    """
    fields = _known(model, fields, prefix, ignored)
    _refuse_long(model, fields, prefix)
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _request_error(error.errors(include_url=False)[0], prefix) from error


def unknown_parameter(param: str) -> RequestError:
    """400 for a field that is not known."""
    param = _shown(param)
    return invalid_request(f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")


def _known(
    model: type[Schema], fields: dict[str, Any], prefix: str, ignored: list[str] | None
) -> dict[str, Any]:
    """The fields without unknown ones, before pydantic would make an error of each of tens of thousands."""
    known: dict[str, Any] = {}
    nested = _nested(model)
    for name, value in fields.items():
        if name not in names_of(model):
            if ignored is None:
                raise unknown_parameter(prefix + name)
            ignored.append(prefix + name)
        elif name not in nested:
            known[name] = value
        elif isinstance(value, list):
            known[name] = [
                _known(nested[name], each, f"{prefix}{name}[{index}].", ignored)
                if isinstance(each, dict)
                else each
                for index, each in enumerate(value)
            ]
        else:
            known[name] = (
                _known(nested[name], value, f"{prefix}{name}.", ignored) if isinstance(value, dict) else value
            )
    return known


@functools.cache
def _nested(model: type[Schema]) -> dict[str, type[Schema]]:
    """The fields that are objects with a schema of their own, or arrays of such."""
    nested = {}
    for name, field in model.model_fields.items():
        for part in _parts(field.annotation):
            if isinstance(part, type) and issubclass(part, Schema):
                nested[field.alias or name] = part
    return nested


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def _refuse_long(model: type[Model], fields: dict[str, Any], prefix: str) -> None:
    """Lists and objects with too many members, before pydantic looks at each of them."""
    for name, longest in _max_lengths(model).items():
        value = fields.get(name)
        if isinstance(value, list | dict) and len(value) > longest:
            what, param = "array" if isinstance(value, list) else "object", prefix + name
            message = f"Invalid '{param}': the maximum length is {longest}."
            raise invalid_request(message, param=param, code=f"{what}_above_max_length")


@functools.cache
def names_of(model: type[Schema]) -> frozenset[str]:
    """The fields as clients name them."""
    return frozenset(field.alias or name for name, field in model.model_fields.items())


@functools.cache
def _max_lengths(model: type[Schema]) -> dict[str, int]:
    """The maximum length of each field that has one."""
    lengths: dict[str, int] = {}
    for name, schema in model.model_json_schema()["properties"].items():
        for option in schema.get("anyOf", [schema]):
            longest = option.get("maxItems", option.get("maxProperties"))
            if longest is not None:
                lengths[name] = longest
    return lengths


def _request_error(fault: ErrorDetails, prefix: str) -> RequestError:
    cause = fault.get("ctx", {}).get("error")
    param = _shown(prefix + (cause.param if isinstance(cause, FieldFault) else _path(fault["loc"])))
    code, message = _describe(fault, param)
    return invalid_request(message, param=param or None, code=code)


def _shown(param: str) -> str:
    return param if len(param) <= _MAX_SHOWN else param[:_MAX_SHOWN] + "…"


def _path(loc: tuple[int | str, ...]) -> str:
    path = ""
    for part in loc:
        if part != "[key]":  # pydantic's word for a name that is at fault itself
            path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _describe(fault: ErrorDetails, param: str) -> tuple[str, str]:
    kind, given, context = fault["type"], fault["input"], fault.get("ctx", {})
    if kind == "missing":
        return "missing_required_parameter", f"Missing required parameter: '{param}'."
    if kind == "extra_forbidden":
        return "unknown_parameter", f"Unknown parameter: '{param}'."
    if kind in _TYPE_NAMES:
        expected = f"expected {_TYPE_NAMES[kind]}, but got {_type_name(given)} instead"
        return "invalid_type", f"Invalid type for '{param}': {expected}."
    if kind in _BOUNDS:
        return _describe_bound(kind, given, context, param)
    if kind in _LENGTHS:
        return _describe_length(kind, given, context, param)
    return "invalid_value", f"Invalid value for '{param}': {_why(fault)}."


def _why(fault: ErrorDetails) -> str:
    context = fault.get("ctx", {})
    match fault["type"]:
        case "value_error":
            return str(context["error"])
        case "literal_error":
            return f"expected {context['expected']}"
        case "string_pattern_mismatch":
            return f"expected the pattern {context['pattern']}"
        case _:
            return str(fault["msg"])


def _describe_bound(kind: str, given: Any, context: dict[str, Any], param: str) -> tuple[str, str]:
    code, words, sign, key = _BOUNDS[kind]
    number = "integer" if isinstance(given, int) and isinstance(context[key], int) else "decimal"
    expected = f"Expected a value {sign} {context[key]}, but got {given} instead"
    return f"{number}_{code}", f"Invalid '{param}': {number} {words}. {expected}."


def _describe_length(kind: str, given: Any, context: dict[str, Any], param: str) -> tuple[str, str]:
    what, key, end = _LENGTHS[kind]
    what = "object" if isinstance(given, dict) else what
    if not given:
        return f"empty_{what}", f"Invalid '{param}': empty {what}. The minimum length is {context[key]}."
    bound = "minimum" if key == "min_length" else "maximum"
    return f"{what}_{end}_length", f"Invalid '{param}': the {bound} length is {context[key]}."


def _type_name(value: Any) -> str:
    names: dict[type, str] = {
        str: "a string", bool: "a boolean", int: "an integer", float: "a decimal",
        list: "an array", dict: "an object", type(None): "null",
    }  # fmt: skip
    return names.get(type(value), type(value).__name__)
