"""Describes the machine and the software that a report was measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from shared.host.cpu_info import cpu_field, cpu_flags, read_cpu_info
from shared.host.memory import mem_info_bytes

#: Instruction-set extensions that decide how fast a model runs on a CPU.
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


def describe_machine() -> str:
    """CPU, cores, memory, operating system, Python."""
    cpu_info = read_cpu_info()
    known = cpu_flags(cpu_info)
    flags = [flag for flag in _FLAGS if flag in known]
    return (
        f"{cpu_field('model name', cpu_info) or 'unknown'}, {os.cpu_count()} cores ({', '.join(flags)}), "
        f"{mem_info_bytes('MemTotal') / 2**30:.0f} GiB, Linux {platform.release()},"
        f" Python {platform.python_version()}"
    )


def describe_baton() -> str:
    """The commit, and the versions of its main libraries."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        cwd=Path(__file__).parent,
        encoding="utf-8",
        errors="replace",
    ).stdout.strip()
    return f"{commit or 'no checkout'}, torch {version('torch')}, transformers {version('transformers')}"
