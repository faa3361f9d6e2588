"""What a header says of ignored fields is bounded and harmless."""

from __future__ import annotations

import pytest

from api.http.ignored_parameters import header_value


@pytest.mark.parametrize(
    ("paths", "value"),
    [
        (["foo"], "foo"),
        (["foo", "bar.baz", "foo"], "foo, bar.baz"),
        (["messages[0].foo", "messages[17].foo"], "messages[].foo"),
        (["foo", "a b", "é", "a\r\nx: y", "", "x" * 65], "foo, +5"),
        (["[]"], "+1"),
        (["a b"], "+1"),
        (
            [f"name{number}" for number in range(23)],
            ", ".join(f"name{number}" for number in range(20)) + ", +3",
        ),
    ],
)
def test_names_are_shown_or_counted(paths: list[str], value: str) -> None:
    assert header_value(paths) == value


def test_it_is_never_longer_than_a_kilobyte() -> None:
    value = header_value([f"{number:02}".ljust(64, "x") for number in range(99)])
    assert len(value) <= 1024 and value.endswith(", +84")
