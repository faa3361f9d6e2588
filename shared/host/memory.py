"""Reads how much memory the system and its control groups leave to this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_MEM_INFO = Path("/proc/meminfo")
_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
#: The files with limit and usage, and the field of memory.stat with memory that the kernel can reclaim.
_VERSION_2 = ("memory.max", "memory.current", "inactive_file")
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def mem_info_bytes(name: str, path: Path = _MEM_INFO) -> int:
    """Return a field of /proc/meminfo, such as MemTotal. Raises OSError if the system does not report it."""
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise OSError(f"{path} has no {name}")


def cgroup_free_bytes(root: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> Iterator[int]:
    """Yield the bytes left in this process's control group and in each parent group that has a limit.

    A container sees its own group as the root. Supports cgroup versions 1 and 2. Yields nothing without groups.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "memory" if controllers else root
        files = _VERSION_1 if controllers else _VERSION_2
        own = top / name.lstrip("/")
        for group in (own, *own.parents):
            if group.is_relative_to(top) and (left := _left_in(group, *files)) is not None:
                yield left


def _left_in(group: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    """Return the bytes left, or None if there is no such group or it has no limit."""
    try:
        most, used = (group / limit).read_text().strip(), int((group / usage).read_text())
        fields = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:
        return None
    return None if most == "max" else max(0, int(most) - used + int(fields.get(reclaimable, 0)))
