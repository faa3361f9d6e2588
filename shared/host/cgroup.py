"""Limits that control groups (https://docs.kernel.org/admin-guide/cgroup-v2.html) set for this process.

Version 1 and 2. In a container the process's own group is mounted as the root; outside, or in a privileged container,
it lies below. Parents limit their children, so every group up to the root counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def free_bytes(root: Path = ROOT, membership: Path = MEMBERSHIP) -> Iterator[int]:
    """Yield the bytes left in this process's group and in each parent group that has a limit."""
    for group, is_version_2 in _groups("memory", root, membership):
        if is_version_2:
            left = _left_in(group, "memory.max", "memory.current", "inactive_file")
        else:
            left = _left_in(group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        if left is not None:
            yield left


def memory_limits(root: Path = ROOT, membership: Path = MEMBERSHIP) -> Iterator[int]:
    """Yield the memory limit in bytes of each of these groups, if it has one."""
    for group, is_version_2 in _groups("memory", root, membership):
        try:
            limit = _text(group / ("memory.max" if is_version_2 else "memory.limit_in_bytes"))
        except OSError:
            continue
        if limit.isdigit():
            yield int(limit)


def cpu_quotas(root: Path = ROOT, membership: Path = MEMBERSHIP) -> Iterator[float]:
    """Yield how many CPUs each of these groups may use at once, if it has a quota."""
    for group, is_version_2 in _groups("cpu", root, membership):
        try:
            if is_version_2:
                quota, period = _text(group / "cpu.max").split()
            else:
                quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
            # Version 2 says "max" if there is no quota, version 1 says -1.
            if quota.isdigit() and int(period) > 0:
                yield int(quota) / int(period)
        except (OSError, ValueError):
            continue


def _groups(controller: str, root: Path, membership: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the process's group for a controller and its parents, and whether each has version 2."""
    try:
        lines = membership.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        # Some systems mount cpu and cpuacct together under a joint name, with a link for each.
        top = root / controller if controllers else root
        own = top / name.lstrip("/")
        for group in (own, *own.parents):
            if group.is_relative_to(top):
                yield group, not controllers


def _left_in(group: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    """Return the bytes left, or None if there is no such group or it has no limit."""
    try:
        most, used = _text(group / limit), int(_text(group / usage))
        fields = dict(line.split() for line in _text(group / "memory.stat").splitlines())
        return None if most == "max" else max(0, int(most) - used + int(fields.get(reclaimable, 0)))
    except (OSError, ValueError):
        return None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()
