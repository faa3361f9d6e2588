"""Free memory: how much this process may still take, and how many tokens' keys and values that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from shared.errors import BatonError


class OutOfMemory(BatonError):
    """Raised when a model does not fit into its device's memory."""


#: Share of the free memory that slots may take. The prefix cache takes a quarter of that; the rest is for
#: what a step computes, and for others.
_SHARE = 0.6

_CGROUPS = Path("/sys/fs/cgroup")
#: Files of limit, usage and the field of memory.stat that the kernel gives back first: version 2, version 1.
_VERSION_2 = ("memory.max", "memory.current", "inactive_file")
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def kv_tokens(token_bytes: Mapping[torch.device, int]) -> int:
    """How many tokens, of so many bytes on each device, the memory that is free now has room for."""
    return min(int(free_bytes(device) * _SHARE) // needed for device, needed in token_bytes.items())


def free_bytes(device: torch.device) -> int:
    """On a CPU what the system and each control group around this process leave; on a GPU what nobody has,
    and what torch keeps of what it freed."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return min([_available(), *_left_in_groups(_CGROUPS, Path("/proc/self/cgroup"))])


def _available() -> int:
    """The kernel's estimate of what can be had without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    raise OSError("/proc/meminfo has no MemAvailable")


def _left_in_groups(root: Path, membership: Path) -> Iterator[int]:
    """What is left in this process's group and in those around it. A container sees its own as the root."""
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
    """None where there is no such group, or it has no limit."""
    try:
        most, used = (group / limit).read_text().strip(), int((group / usage).read_text())
        fields = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:
        return None
    return None if most == "max" else max(0, int(most) - used + int(fields.get(reclaimable, 0)))
