"""Control groups of both versions, as the kernel shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.host.cgroup import cpu_quotas, free_bytes

VERSION_2 = ("memory.max", "memory.current", "inactive_file")
VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def group(path: Path, names: tuple[str, str, str], limit: str, used: int, inactive: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / names[0]).write_text(f"{limit}\n")
    (path / names[1]).write_text(f"{used}\n")
    (path / "memory.stat").write_text(f"anon 5\n{names[2]} {inactive}\n")


def member(root: Path, text: str) -> Path:
    path = root / "membership"
    path.write_text(text)
    return path


def test_groups_around_a_group_limit_it_too(tmp_path: Path) -> None:
    group(tmp_path / "a/b", VERSION_2, "1000", used=900, inactive=50)
    group(tmp_path / "a", VERSION_2, "300", used=290, inactive=0)
    assert list(free_bytes(tmp_path, member(tmp_path, "0::/a/b\n"))) == [150, 10]


def test_first_version_and_missing_groups(tmp_path: Path) -> None:
    group(tmp_path / "memory/x", VERSION_1, "500", used=600, inactive=10)
    membership = member(tmp_path, "7:cpu,cpuacct:/x\n4:memory:/x/y\n0::/\n")
    assert list(free_bytes(tmp_path, membership)) == [0]


def test_no_limit_is_none(tmp_path: Path) -> None:
    group(tmp_path, VERSION_2, "max", used=1, inactive=0)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    membership = member(tmp_path, "0::/\n")
    assert list(free_bytes(tmp_path, membership)) == list(cpu_quotas(tmp_path, membership)) == []


def test_a_system_without_control_groups(tmp_path: Path) -> None:
    assert list(free_bytes(tmp_path, tmp_path / "none")) == []
    assert list(cpu_quotas(tmp_path, tmp_path / "none")) == []


@pytest.mark.parametrize("line", ["", "nonsense", "0:", "x:memory", "1:memory:/x"])
def test_what_cannot_be_read_is_no_limit(tmp_path: Path, line: str) -> None:
    group(tmp_path / "memory/x", VERSION_1, "much", used=1, inactive=0)
    membership = member(tmp_path, f"{line}\n")
    assert list(free_bytes(tmp_path, membership)) == list(cpu_quotas(tmp_path, membership)) == []


def test_cpu_quotas_of_the_second_version(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/cpu.max").write_text("max 100000\n")
    (tmp_path / "a/cpu.max").write_text("150000 100000\n")
    assert list(cpu_quotas(tmp_path, member(tmp_path, "0::/a/b\n"))) == [1.5]


def test_cpu_quotas_of_the_first_version(tmp_path: Path) -> None:
    for folder, quota in (("cpu", "-1"), ("cpu/x", "200000")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (tmp_path / folder / "cpu.cfs_period_us").write_text("100000\n")
    assert list(cpu_quotas(tmp_path, member(tmp_path, "4:memory:/x\n7:cpu,cpuacct:/x\n"))) == [2.0]
