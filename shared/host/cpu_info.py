"""Reads what the system reports about its CPUs from /proc/cpuinfo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")

#: Name and value of each field of each CPU, in the order of the file.
CpuFields = Sequence[tuple[str, str]]


def read_cpu_info(path: Path = _CPU_INFO) -> CpuFields:
    """Return all fields, or nothing if the system has no such file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    pairs = (line.partition(":") for line in lines)
    return [(name.strip(), value.strip()) for name, colon, value in pairs if colon]


def cpu_field(name: str, fields: CpuFields) -> str:
    """Return the first CPU's value, or an empty string if the system does not report it."""
    return next((value for key, value in fields if key == name), "")


def cpu_flags(fields: CpuFields) -> frozenset[str]:
    """Return the instruction-set extensions of the first CPU: `flags` on x86, `Features` on Arm."""
    return frozenset((cpu_field("flags", fields) or cpu_field("Features", fields)).split())
