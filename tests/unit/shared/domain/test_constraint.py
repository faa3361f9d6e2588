"""A constraint is read as it was written."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from shared.domain.constraint import Constraint


def test_what_was_written_is_read() -> None:
    constraint = Constraint("regex", "a+", "structured_outputs.regex")
    assert Constraint.decode(asdict(constraint)) == constraint
    assert Constraint.decode(None) is None


def test_a_kind_that_is_unknown_is_not_read() -> None:
    with pytest.raises(ValueError, match="tag"):
        Constraint.decode({"kind": "tag", "text": "", "field": ""})
