"""Checks that the workers' weights fit in the free memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from cli.errors import StartRefused
from cli.supervisor.setup.devices import Gpu
from shared.host.device_name import parts_of
from shared.host.memory import free_bytes

#: What a worker process needs besides its weights: the interpreter, torch, the tokenizer.
OVERHEAD_BYTES = 400 << 20


def check_memory(weight_bytes: int, devices: tuple[str, ...], free: Mapping[str, int]) -> None:
    """Raises StartRefused if a device, or the GPUs of one worker together, do not have enough free memory.

    A device that is missing from `free` is not checked.
    """
    for device, num_workers in Counter(devices).items():
        needed = num_workers * (weight_bytes + OVERHEAD_BYTES)
        parts = parts_of(device)
        if not all(part in free for part in parts):
            continue
        available = sum(free[part] for part in parts)
        if needed > available:
            raise StartRefused(
                f"not enough memory on {device}: {num_workers} worker{'s' * (num_workers > 1)} would need"
                f" {_gib(needed)}, but only {_gib(available)} is free"
            )


def free_memory(gpus: list[Gpu]) -> dict[str, int]:
    """Free bytes of each device."""
    return {"cpu": free_bytes(), **{f"cuda:{gpu.index}": gpu.free_bytes for gpu in gpus}}


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 30):.1f} GiB"
