from __future__ import annotations

import os

import pytest

from shared.host import cores
from shared.host.cores import available_cores


@pytest.mark.parametrize(
    ("quotas", "expected"), [([], 8), ([2.0], 2), ([4.0, 1.5], 1), ([0.5], 1), ([64.0], 8)]
)
def test_affinity_and_quotas_limit_the_cores(
    monkeypatch: pytest.MonkeyPatch, quotas: list[float], expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(cores, "cpu_quotas", lambda: iter(quotas))
    assert available_cores() == expected


def test_a_system_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(cores, "cpu_quotas", lambda: iter([]))
    assert available_cores() == 3
