"""SequenceRotary: rotary positions whose frequencies depend on a token's own sequence, not on the batch.

See RotaryRule. The rotary modules of transformers choose their frequencies by the largest position of a forward
pass (`transformers.modeling_rope_utils.dynamic_rope_update`). Here such a module is called once for each set of
frequencies that a step needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workers.engine.attention.slots import UnsupportedModel
from workers.engine.scheduling.rotary_rule import RotaryRule

#: Computes (positions) -> what the module returns for them: cosines and sines, or complex numbers.
_Rotate = Callable[[Tensor], Any]
#: Models whose `prepare_inputs_for_generation` drops the cache when a sequence grows over the border.
_RECOMPUTING = ("phi3", "phimoe", "phi4_multimodal")


def isolate_rotary(model: PreTrainedModel) -> None:
    """Replace the model's rotary modules that depend on the batch, in place. Raises UnsupportedModel."""
    for name, module in list(model.named_modules()):
        kinds = _kinds(module)
        if any(kind == "longrope" or "dynamic" in kind for kind in kinds.values()):
            model.set_submodule(name, SequenceRotary(module, kinds))


def rotary_modules(model: PreTrainedModel) -> list[SequenceRotary]:
    return [module for module in model.modules() if isinstance(module, SequenceRotary)]


def rotary_rule(model: PreTrainedModel) -> RotaryRule | None:
    """The rule of a model after `isolate_rotary`. None: its rotary positions do not depend on lengths."""
    modules = rotary_modules(model)
    borders = {border for module in modules for border in module.borders.values()}
    if not borders:
        return None
    is_graded = len(borders) > 1 or any(module.is_dynamic for module in modules)
    recomputes = model.config.get_text_config().model_type in _RECOMPUTING
    return RotaryRule(min(borders), recomputes, is_graded)


def _kinds(module: nn.Module) -> Mapping[str | None, str]:
    """The rotary type of a module, or those of its layer types."""
    kind = getattr(module, "rope_type", None)
    if isinstance(kind, Mapping):
        return {layer: str(one) for layer, one in kind.items()}
    return {None: kind} if isinstance(kind, str) else {}


class SequenceRotary(nn.Module):
    """Wraps a rotary module. Called as the wrapped one, with positions [1, T]."""

    def __init__(self, rotary: Any, kinds: Mapping[str | None, str]) -> None:
        super().__init__()
        self.rotary = rotary
        self._kinds = kinds
        #: For each token, the length of the sequence whose frequencies it gets, [1, T]. None: its position plus one.
        self.lengths: Tensor | None = None
        #: By layer type: the length up to which frequencies are those of short sequences.
        self.borders = {
            layer: _border(rotary, kind, layer) for layer, kind in kinds.items() if _is_long(kind)
        }

    @property
    def is_dynamic(self) -> bool:
        return any("dynamic" in kind for kind in self._kinds.values())

    def forward(self, x: Tensor, position_ids: Tensor, layer_type: str | None = None) -> Any:
        layer = {} if layer_type is None else {"layer_type": layer_type}

        def rotate(positions: Tensor) -> Any:
            return self.rotary(x, positions, **layer)

        kind = self._kinds[layer_type]
        if not _is_long(kind):
            return rotate(position_ids)
        if position_ids.dim() != 2 or len(position_ids) != 1:
            raise UnsupportedModel(
                f"{type(self.rotary).__name__} uses {kind} with several positions for each token"
            )
        lengths = position_ids + 1 if self.lengths is None else self.lengths.to(position_ids.device)
        border = self.borders[layer_type]
        if kind == "longrope":
            return _choose(rotate, position_ids, lengths, border)
        return self._scale(rotate, position_ids, lengths.clamp(min=border), layer_type)

    def _scale(self, rotate: _Rotate, positions: Tensor, lengths: Tensor, layer_type: str | None) -> Any:
        """Rotate the tokens of each length together, each time as the first call of a new module."""
        rotated = None
        for length in torch.unique(lengths):
            indices = (lengths[0] == length).nonzero()[:, 0]
            self._reset(layer_type)
            part = _rotate_as(rotate, positions[:, indices], length)
            if len(indices) == positions.shape[1]:
                return part
            if rotated is None:
                rotated = _map(lambda one: one.new_empty(1, positions.shape[1], *one.shape[2:]), part)
            _map(lambda whole, one, at=indices: whole.index_copy_(1, at, one), rotated, part)
        return rotated

    def _reset(self, layer_type: str | None) -> None:
        """Undo what `dynamic_rope_update` keeps from call to call."""
        prefix = "" if layer_type is None else f"{layer_type}_"
        setattr(self.rotary, f"{prefix}inv_freq", getattr(self.rotary, f"{prefix}original_inv_freq"))
        setattr(self.rotary, f"{prefix}max_seq_len_cached", self.rotary.original_max_seq_len)


def _is_long(kind: str) -> bool:
    return kind == "longrope" or "dynamic" in kind


def _border(rotary: Any, kind: str, layer_type: str | None) -> int:
    if kind != "longrope":
        return int(rotary.original_max_seq_len)
    parameters = rotary.config.rope_parameters
    chosen = parameters if layer_type is None else parameters[layer_type]
    return int(chosen["original_max_position_embeddings"])


def _choose(rotate: _Rotate, positions: Tensor, lengths: Tensor, border: int) -> Any:
    """Rotate all tokens with both sets of frequencies. No value is read, so this can be a part of a CUDA graph."""
    short = rotate(positions.clamp(max=border - 1))
    long = _rotate_as(rotate, positions, positions.new_tensor(border + 1))
    is_long = (lengths > border)[..., None]
    return _map(lambda one, other: torch.where(is_long, other, one), short, long)


def _rotate_as(rotate: _Rotate, positions: Tensor, length: Tensor) -> Any:
    """Rotate tokens as in a sequence of at least this length: with its last position as one more token."""
    last = (length - 1).expand(1, 1)
    return _map(lambda one: one[:, :-1], rotate(torch.cat([positions, last], 1)))


def _map(change: Callable[..., Tensor], *results: Any) -> Any:
    """Apply a function to the tensors of what rotary modules return."""
    if isinstance(results[0], Tensor):
        return change(*results)
    return tuple(change(*tensors) for tensors in zip(*results, strict=True))
