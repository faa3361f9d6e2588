"""How fast jobs went lately, from what the scripts count."""

from __future__ import annotations

import pytest

from shared.errors import DecodeError
from shared.store.throughput import BUCKET_S, NUM_BUCKETS, Throughput

NOW_S = 1_700_000_000
BUCKET = NOW_S // BUCKET_S


def test_old_buckets_do_not_count() -> None:
    gone = BUCKET - NUM_BUCKETS
    record = {f"{BUCKET}:n": "3", f"{BUCKET}:ms": "6000", f"{gone + 1}:n": "1", f"{gone + 1}:ms": "500"}
    old = {f"{gone}:n": "9", f"{gone}:ms": "9"}
    assert Throughput.decode(record | old, NOW_S) == Throughput(4, 6.5)


def test_data_that_cannot_be_decoded_is_an_error() -> None:
    with pytest.raises(DecodeError):
        Throughput.decode({f"{BUCKET}:x": "1"}, NOW_S)


def test_the_rate_is_that_of_busy_slots() -> None:
    assert Throughput(10, 20.0).jobs_per_s(4) == 2.0
    assert Throughput(10, 20.0).jobs_per_s(0) is None
    assert Throughput().jobs_per_s(4) is None


@pytest.mark.parametrize(
    ("position", "free", "eta_s"), [(0, 1, 0), (0, 0, 1), (3, 0, 2), (9, 0, 5), (9, 4, 3), (2, 4, 0)]
)
def test_the_eta_counts_those_before_and_free_slots(position: int, free: int, eta_s: int) -> None:
    assert Throughput(10, 20.0).eta_s(position, slots=4, free=free) == eta_s


def test_no_measure_no_eta() -> None:
    assert Throughput().eta_s(0, slots=4, free=4) is None
    assert Throughput(1, 1.0).eta_s(0, slots=0, free=0) is None
