"""Usage survives its text, and may count more in a newer version."""

from __future__ import annotations

import pytest

from shared.domain.usage import Usage
from shared.errors import DecodeError


def test_usage_survives_its_text() -> None:
    for used in (Usage(), Usage(5, 7), Usage(5, 7, 2, 3)):
        assert Usage.decode(used.encode()) == used
    assert Usage(5, 7, 2, 3).encode() == "5,7,2,3"


def test_an_entry_without_usage_has_used_nothing() -> None:
    assert Usage.decode("") == Usage()


def test_counts_of_a_newer_version_are_left_out_and_those_of_an_older_one_are_zero() -> None:
    assert Usage.decode("1,2,3,4,5") == Usage(1, 2, 3, 4)
    assert Usage.decode("1,2") == Usage(1, 2)


@pytest.mark.parametrize("raw", ["x", "1,,2", "1.5"])
def test_anything_else_is_a_decode_error(raw: str) -> None:
    with pytest.raises(DecodeError):
        Usage.decode(raw)


def test_counts_add_up() -> None:
    assert Usage(1, 2, 3, 4).plus(Usage(10, 20, 30, 40)) == Usage(11, 22, 33, 44)
    assert Usage(5, 7, 2, 3).total == 12
