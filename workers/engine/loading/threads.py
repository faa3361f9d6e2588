"""Threads: how many compute a forward pass on a CPU, and whether they are ours or torch's."""

from __future__ import annotations

import torch

from shared.host.cores import available_cores
from workers.engine.config import EngineConfig
from workers.engine.loading.kernels import uses_operations
from workers.native.ops import has_int8_products, has_products, share_with_helpers


def use_threads(config: EngineConfig, device: torch.device, dtype: torch.dtype) -> None:
    """Set the threads for the model that is loaded next.

    They are threads of `workers.native` if it computes the matrix products, else torch's. In the first case
    torch gets a single thread, because its idle threads would compete for the same cores.
    """
    is_native = uses_operations(config.native, device, dtype)
    has_own = has_int8_products if config.quant == "int8" else has_products
    are_own = is_native and has_own(device, dtype)
    number = config.threads or default_threads(are_own)
    torch.set_num_threads(1 if are_own else number)
    if is_native:
        share_with_helpers(number - 1 if are_own else 0)


def default_threads(are_own: bool) -> int:
    """All cores for our own threads, which give way to other processes; all but one for torch's.

    torch's threads wait for each other hundreds of times in a forward pass. If another process takes one of
    their cores, all of them stall. Measured on 2 cores with 135M parameters in bfloat16, median step time at
    1, 8 and 32 rows, one torch thread against two: on an idle machine 19, 24, 55 against 16, 19, 40 ms;
    beside one busy core 20, 25, 57 against 56, 72, 157 ms.
    """
    return available_cores() if are_own else max(1, available_cores() - 1)
