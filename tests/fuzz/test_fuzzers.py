"""Each fuzzer's short form: a few seconds, always the same attacks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz import http_api
from tests.fuzz.tally import Budget, Tally
from tests.fuzz.target import SmallSystem

SEED = 1


@pytest.fixture(scope="module")
def system() -> Iterator[SmallSystem]:
    """One running system for all fuzzers that do not stand between it and Redis."""
    with SmallSystem(RECEIPT_S="1", READER_GRACE_S="1", FIRST_OUTPUT_WAIT_S="5") as running:
        yield running


def assert_clean(tally: Tally) -> None:
    assert tally.ended == []
    assert [(fault.group, fault.what, fault.example) for fault in tally.faults.values()] == []


def test_http(system: SmallSystem) -> None:
    tally = Tally()
    http_api.run(system, SEED, Budget(tries=600), tally)
    assert_clean(tally)
    assert tally.num_tried >= 600
