"""Lets commands share options: a parameter that is a dataclass becomes one option per field."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any


def unfold(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command in a form that Typer understands.

    Each parameter whose type is a dataclass is replaced by the dataclass's fields, which are `Annotated` with a
    `typer.Option`. Calling the result builds the dataclass again.
    """
    parameters = inspect.signature(command, eval_str=True).parameters
    sets = {name: _fields(p.annotation) for name, p in parameters.items() if is_dataclass(p.annotation)}

    def run(**given: Any) -> None:
        for name, fields in sets.items():
            chosen = {field.name: given.pop(field.name) for field in fields}
            given[name] = parameters[name].annotation(**chosen)
        command(**given)

    unfolded = [each for name, p in parameters.items() for each in sets.get(name, [p])]
    # Keyword-only, so that fields with defaults may come before a parameter without one.
    by_name = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in unfolded]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {p.name: p.annotation for p in by_name}
    run.__signature__ = inspect.Signature(by_name)  # type: ignore[attr-defined]  # inspect reads it
    return run


def _fields(kind: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(kind, eval_str=True).parameters.values())
