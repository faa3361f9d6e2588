from __future__ import annotations

import pytest

from cli.errors import StartRefused
from cli.supervisor.setup.devices import Gpu
from cli.supervisor.setup.memory import OVERHEAD_BYTES, check_memory, free_memory

GIB = 1 << 30


def test_enough_for_all_workers_of_a_device() -> None:
    check_memory(GIB, ("cpu", "cpu", "cuda:0"), {"cpu": 2 * (GIB + OVERHEAD_BYTES), "cuda:0": 2 * GIB})


def test_too_little_is_told_with_both_numbers() -> None:
    with pytest.raises(StartRefused) as caught:
        check_memory(GIB, ("cpu", "cpu"), {"cpu": 2 * GIB})
    assert (
        str(caught.value)
        == "not enough memory on cpu: 2 workers would need 2.8 GiB, but only 2.0 GiB is free"
    )


def test_a_device_that_nothing_is_known_of_is_not_judged() -> None:
    check_memory(GIB, ("cuda:3",), {"cpu": 0})


def test_what_is_free_here() -> None:
    free = free_memory([Gpu(1, GIB)])
    assert free["cuda:1"] == GIB
    assert free["cpu"] > 0


def test_gpus_of_one_worker_hold_its_weights_together() -> None:
    check_memory(3 * GIB, ("cuda:0+cuda:1",), {"cuda:0": 2 * GIB, "cuda:1": 2 * GIB})
    with pytest.raises(
        StartRefused, match=r"on cuda:0\+cuda:1: 1 worker would need 3.4 GiB, but only 3.0 GiB is free"
    ):
        check_memory(3 * GIB, ("cuda:0+cuda:1",), {"cuda:0": 2 * GIB, "cuda:1": GIB})
