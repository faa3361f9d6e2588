"""Device map: splits a model over several GPUs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from accelerate import infer_auto_device_map, init_empty_weights
from accelerate.utils import get_balanced_memory
from transformers import AutoModelForCausalLM, PreTrainedConfig

from workers.engine.loading.free_memory import OutOfMemory, free_bytes

#: Share of a GPU's free memory that weights may use. Keys, values and the step itself need some as well.
_SHARE = 0.85


def device_map(
    config: PreTrainedConfig,
    dtype: torch.dtype,
    devices: Sequence[torch.device],
    free: Callable[[torch.device], int] = free_bytes,
) -> dict[str, torch.device | int]:
    """Map modules to devices by name. Layers are never split, and each GPU gets what its memory allows.

    Layers on several GPUs compute one after the other. `free` returns the free bytes of a device. Raises:
    OutOfMemory if the model does not fit.
    """
    if len(devices) == 1:
        return {"": devices[0]}
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.tie_weights()
    room = {device.index: int(free(device) * _SHARE) for device in devices}
    form = {"no_split_module_classes": model._no_split_modules, "dtype": dtype}
    # Equal shares may leave too much for the last GPU when the first ones have little memory.
    for limits in (get_balanced_memory(model, dict(room), **form), room):
        placed: dict[str, torch.device | int] = infer_auto_device_map(model, dict(limits), **form)
        if all(isinstance(device, int) for device in placed.values()):
            return placed
    names = "+".join(map(str, devices))
    raise OutOfMemory(f"{config.model_type} does not fit into the free memory of {names}")
