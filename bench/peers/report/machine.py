"""The machine and what is measured on it, in words."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

#: Instructions that decide how fast a model is on a CPU.
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


def cpu_flags() -> set[str]:
    """Instructions that the CPU has, as Linux names them."""
    return set(_field(_cpuinfo(), "flags").split())


def describe_machine() -> str:
    """CPU, cores, memory, system."""
    cpuinfo, known = _cpuinfo(), cpu_flags()
    flags = [flag for flag in _FLAGS if flag in known]
    kib = int(_field(Path("/proc/meminfo").read_text(), "MemTotal").split()[0])
    return (
        f"{_field(cpuinfo, 'model name')}, {os.cpu_count()} cores ({', '.join(flags)}), "
        f"{kib / 2**20:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"
    )


def describe_baton() -> str:
    """The commit, and what it computes with."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=Path(__file__).parent
    ).stdout.strip()
    return f"{commit or 'no checkout'}, torch {version('torch')}, transformers {version('transformers')}"


def _cpuinfo() -> str:
    return Path("/proc/cpuinfo").read_text()


def _field(text: str, name: str) -> str:
    """Of `name : value` lines the first such value; "unknown" without one."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"
