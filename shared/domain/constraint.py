"""Constraint: what the text of an answer has to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

ConstraintKind = Literal["json_schema", "regex", "choice", "grammar"]


@dataclass(frozen=True, slots=True)
class Constraint:
    """Plain data, on its way from the API to the worker's grammar library, which alone can read it."""

    kind: ConstraintKind
    #: A JSON schema; a regular expression; a JSON array of strings; a grammar (Lark's form, or GBNF).
    text: str
    #: The request's field that asks for it, named in errors.
    field: str

    @classmethod
    def decode(cls, fields: dict[str, Any] | None) -> Constraint | None:
        """Reads what `asdict` made. Raises ValueError, KeyError or TypeError."""
        if fields is None:
            return None
        if fields["kind"] not in get_args(ConstraintKind):
            raise ValueError(fields["kind"])
        return cls(cast(ConstraintKind, fields["kind"]), fields["text"], fields["field"])
