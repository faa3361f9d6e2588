"""Rotary test: checks at load that a sequence's rotary positions do not depend on its neighbours, however long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workers.engine.attention.slots import UnsupportedModel
from workers.engine.loading.context_length import context_limit
from workers.engine.model.sequence_rotary import SequenceRotary, rotary_modules

#: Positions that are looked at around each border and before the end of the context.
_NUM_POSITIONS = 4


@torch.inference_mode()
def require_independent_rotary(model: PreTrainedModel, token_ids: Sequence[int]) -> None:
    """Compare the rotary positions of short and long sequences, together and each alone. They must be bit-identical.

    Raises UnsupportedModel. `token_ids`: some tokens, to find out how the model calls its rotary modules.
    """
    short, long = _positions(model)
    for module, rotate in _rotary_calls(model, token_ids):
        together = rotate(torch.cat([short, long, short], 1))
        apart = [rotate(part) for part in (short, long, short)]
        for index, whole in enumerate(together):
            if not torch.equal(whole, torch.cat([part[index] for part in apart], -2)):
                name = type(module).__name__
                raise UnsupportedModel(
                    f"{name} rotates a sequence's positions by the length of its neighbours"
                )


def _positions(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """Positions at the start of the context; and far ones, beyond every border that the config names."""
    config = model.config.get_text_config()
    limit = context_limit(config) or 2 * _NUM_POSITIONS
    borders = [limit - 1, (getattr(config, "max_position_embeddings", None) or limit) - 1]
    original = getattr(config, "original_max_position_embeddings", None)
    borders += [original] if isinstance(original, int) else []
    far = {at - step for at in borders for step in range(_NUM_POSITIONS)}
    far = {position for position in far if 0 <= position < limit}
    short = torch.arange(min(_NUM_POSITIONS, limit), device=model.device)[None]
    return short, torch.tensor([sorted(far)], device=model.device)


def _rotary_calls(
    model: PreTrainedModel, token_ids: Sequence[int]
) -> list[tuple[nn.Module, Callable[[Tensor], tuple[Tensor, ...]]]]:
    """The model's rotary modules, each with a function of positions [1, T], for each kind of layer."""
    calls: dict[tuple[int, str], tuple[nn.Module, Callable[[Tensor], tuple[Tensor, ...]]]] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        plain = repr([value for value in (*args, *kwargs.values()) if isinstance(value, str)])
        calls.setdefault(
            (id(module), plain), (module, lambda positions: _call(module, args, kwargs, positions))
        )

    wrapped = [module.rotary for module in rotary_modules(model)]
    hooks = [
        module.register_forward_pre_hook(note, with_kwargs=True)
        for module in model.modules()
        if isinstance(module, SequenceRotary) or (hasattr(module, "rope_type") and module not in wrapped)
    ]
    try:
        ids = torch.tensor([list(token_ids)], device=model.device)
        model(ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return list(calls.values())


def _call(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], positions: Tensor
) -> tuple[Tensor, ...]:
    """Call a module as before, with other positions: its one argument of integers."""

    def change(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.is_floating_point():
            return value
        return positions.expand(*value.shape[:-1], -1).to(value.device)

    rotated = module(*map(change, args), **{name: change(value) for name, value in kwargs.items()})
    return rotated if isinstance(rotated, tuple) else (rotated,)
