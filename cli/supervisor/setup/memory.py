"""Whether the workers' weights fit into the memory that is free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import psutil

from cli.errors import StartRefused
from cli.supervisor.setup.devices import Gpu
from shared.host.device_name import parts_of

#: What a worker process needs besides its weights: the interpreter, torch, the tokenizer.
OVERHEAD_BYTES = 400 << 20
_CGROUP = Path("/sys/fs/cgroup")


def check_memory(weight_bytes: int, devices: tuple[str, ...], free: Mapping[str, int]) -> None:
    """Raises StartRefused when a device, or GPUs together, have not enough room; where `free` lacks one
    nothing is judged."""
    for device, num_workers in Counter(devices).items():
        needed = num_workers * (weight_bytes + OVERHEAD_BYTES)
        parts = parts_of(device)
        if not all(part in free for part in parts):
            continue
        room = sum(free[part] for part in parts)
        if needed > room:
            raise StartRefused(
                f"not enough memory on {device}: {num_workers} worker{'s' * (num_workers > 1)} would need"
                f" {_gib(needed)}, {_gib(room)} are free"
            )


def free_memory(gpus: list[Gpu]) -> dict[str, int]:
    """Free bytes by device."""
    return {"cpu": _free_ram(), **{f"cuda:{gpu.index}": gpu.free_bytes for gpu in gpus}}


def _free_ram() -> int:
    """What the machine has available, or what this container may still take."""
    available = psutil.virtual_memory().available
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        cache = _inactive_file_bytes((_CGROUP / "memory.stat").read_text())
    except (OSError, ValueError):  # no cgroup of version 2, or the limit is the word `max`
        return available
    return min(available, limit - used + cache)


def _inactive_file_bytes(stat: str) -> int:
    """Page cache that the kernel gives back before anything is refused."""
    rows = dict(line.split() for line in stat.splitlines())
    return int(rows.get("inactive_file", 0))


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 30):.1f} GiB"
