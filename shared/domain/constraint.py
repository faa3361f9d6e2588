"""Constraint: the form that the text of an answer must have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

ConstraintKind = Literal["json_schema", "regex", "choice", "grammar"]


@dataclass(frozen=True, slots=True)
class Constraint:
    """A constraint as the client sent it. Only the worker's grammar library can check it."""

    kind: ConstraintKind
    #: A JSON schema, a regular expression, a JSON array of strings, or a grammar in Lark or GBNF syntax.
    text: str
    #: The request field that sets the constraint. Error messages name it.
    field: str

    @classmethod
    def decode(cls, fields: dict[str, Any] | None) -> Constraint | None:
        """Read the output of `asdict`. Raises ValueError, KeyError or TypeError."""
        if fields is None:
            return None
        if fields["kind"] not in get_args(ConstraintKind):
            raise ValueError(fields["kind"])
        return cls(cast(ConstraintKind, fields["kind"]), fields["text"], fields["field"])
