from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import pytest

from shared.host import cgroup
from shared.host.memory import free_bytes, mem_info_bytes, resident_bytes


def test_a_field_of_meminfo(tmp_path: Path) -> None:
    info = tmp_path / "meminfo"
    info.write_text("MemTotal:        2048 kB\nMemAvailable:    1024 kB\n")
    assert mem_info_bytes("MemAvailable", info) == 1 << 20
    with pytest.raises(OSError, match="has no SwapTotal"):
        mem_info_bytes("SwapTotal", info)


def test_control_groups_limit_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "meminfo"
    info.write_text("MemAvailable:    1024 kB\n")
    monkeypatch.setattr(cgroup, "free_bytes", lambda: iter([]))
    assert free_bytes(info) == 1 << 20
    monkeypatch.setattr(cgroup, "free_bytes", lambda: iter([5000, 300]))
    assert free_bytes(info) == 300


def test_without_proc_half_of_the_memory_counts_as_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "free_bytes", lambda: iter([]))
    assert free_bytes(tmp_path / "none") == os.sysconf("SC_PHYS_PAGES") * resource.getpagesize() // 2


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_the_peak_counts_where_the_current_memory_is_not_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, unit: int
) -> None:
    class Usage:
        ru_maxrss = 1000

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda _: Usage)
    assert resident_bytes(tmp_path / "none") == 1000 * unit
    statm = tmp_path / "statm"
    statm.write_text("900 7 3 1 0 1 0\n")
    assert resident_bytes(statm) == 7 * resource.getpagesize()
