from __future__ import annotations

from pathlib import Path

import pytest

from shared.host import memory
from shared.host.memory import cgroup_free_bytes, mem_info_bytes


def group(path: Path, names: tuple[str, str, str], limit: str, used: int, inactive: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / names[0]).write_text(f"{limit}\n")
    (path / names[1]).write_text(f"{used}\n")
    (path / "memory.stat").write_text(f"anon 5\n{names[2]} {inactive}\n")


def left(root: Path, membership: str) -> list[int]:
    (root / "membership").write_text(membership)
    return list(cgroup_free_bytes(root, root / "membership"))


def test_groups_around_a_group_limit_it_too(tmp_path: Path) -> None:
    group(tmp_path / "a/b", memory._VERSION_2, "1000", used=900, inactive=50)
    group(tmp_path / "a", memory._VERSION_2, "300", used=290, inactive=0)
    assert left(tmp_path, "0::/a/b\n") == [150, 10]


def test_first_version_and_missing_groups(tmp_path: Path) -> None:
    group(tmp_path / "memory/x", memory._VERSION_1, "500", used=600, inactive=10)
    assert left(tmp_path, "7:cpu,cpuacct:/x\n4:memory:/x/y\n0::/\n") == [0]


def test_no_limit_is_none(tmp_path: Path) -> None:
    group(tmp_path, memory._VERSION_2, "max", used=1, inactive=0)
    assert left(tmp_path, "0::/\n") == []


def test_a_system_without_control_groups(tmp_path: Path) -> None:
    assert list(cgroup_free_bytes(tmp_path, tmp_path / "none")) == []


def test_a_field_of_meminfo(tmp_path: Path) -> None:
    info = tmp_path / "meminfo"
    info.write_text("MemTotal:        2048 kB\nMemAvailable:    1024 kB\n")
    assert mem_info_bytes("MemAvailable", info) == 1 << 20
    with pytest.raises(OSError, match="has no SwapTotal"):
        mem_info_bytes("SwapTotal", info)
