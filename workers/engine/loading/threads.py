"""Threads of a forward on a CPU: how many, and whose."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from workers.engine.config import EngineConfig
from workers.engine.loading.kernels import uses_operations
from workers.native.ops import has_int8_products, has_products, share_with_helpers


def use_threads(config: EngineConfig, device: torch.device, dtype: torch.dtype) -> None:
    """For the model that is loaded next: `config.threads` of our own where products are ours, else of torch.

    Torch then has but one: others of its pool would look for work on the same cores.
    """
    is_native = uses_operations(config.native, device, dtype)
    has_own = has_int8_products if config.quant == "int8" else has_products
    are_own = is_native and has_own(device, dtype)
    number = config.threads or default_threads(are_own)
    torch.set_num_threads(1 if are_own else number)
    if is_native:
        share_with_helpers(number - 1 if are_own else 0)


def default_threads(are_own: bool) -> int:
    """All cores where threads are our own, which leave one to whoever needs it; of torch's all but one.

    Threads of torch wait for one another some hundred times in a forward: when another process takes one of
    their cores, all of them stand still. Measured on 2 cores, medians of a step of 135M parameters in
    bfloat16 at 1, 8 and 32 rows, one of torch's threads against two: quiet 19, 24, 55 against 16, 19, 40 ms;
    beside a busy core 20, 25, 57 against 56, 72, 157.
    """
    return available_cores() if are_own else max(1, available_cores() - 1)


def available_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its cgroup (version 2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
