"""How much memory the system leaves to this process, and how much the process has."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from shared.host import cgroup

_MEM_INFO = Path("/proc/meminfo")
_STATM = Path("/proc/self/statm")
_PAGE_BYTES = resource.getpagesize()


def free_bytes(mem_info: Path = _MEM_INFO) -> int:
    """Return what the system and all control groups of this process leave.

    Linux estimates what can be allocated without swapping. For another system, half of its memory counts as free.
    """
    try:
        free = mem_info_bytes("MemAvailable", mem_info)
    except OSError:
        free = os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES // 2
    return min([free, *cgroup.free_bytes()])


def total_bytes(mem_info: Path = _MEM_INFO) -> int:
    """Return the system's memory, or the limit of this process's control groups if that is less."""
    try:
        total = mem_info_bytes("MemTotal", mem_info)
    except OSError:
        total = os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES
    return min([total, *cgroup.memory_limits()])


def resident_bytes(statm: Path = _STATM) -> int:
    """Return this process's memory now, or its peak if the system does not report the current value."""
    try:
        return int(statm.read_text(encoding="utf-8").split()[1]) * _PAGE_BYTES
    except OSError:
        # In bytes on macOS, in KiB elsewhere: getrusage(2) of each.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def mem_info_bytes(name: str, path: Path = _MEM_INFO) -> int:
    """Return a field of /proc/meminfo in bytes. Raises OSError if the system does not report it."""
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise OSError(f"{path} has no {name}")
