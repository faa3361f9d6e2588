"""Packs the linear layers of a model for a CPU, and fuses layers that read the same input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from workers.engine.config import Native
from workers.engine.linear.int8 import Int8Linear, Int8Packer
from workers.engine.linear.onednn import OneDnnLinear, ProductForm, find_form
from workers.engine.linear.tiled import TiledLinear
from workers.native.products import Product, has_product

#: The replacements of a linear layer.
FastLinear = OneDnnLinear | TiledLinear | Int8Linear


class Packer:
    """Makes the fastest layer whose rows do not depend on each other."""

    def __init__(self, native: Native = "auto") -> None:
        self._native = native
        self._forms: dict[tuple[int, ...], ProductForm] = {}

    def pack(self, weight: torch.Tensor, bias: torch.Tensor | None) -> OneDnnLinear | TiledLinear:
        """Pack a weight [out, in]."""
        if self._native == "auto" and has_product(weight):
            return TiledLinear(Product(weight, bias))
        shape = tuple(weight.shape)
        if shape not in self._forms:
            self._forms[shape] = find_form(weight)
        return OneDnnLinear(weight, bias, self._forms[shape])


class FusedLinear:
    """Linear layers that are called in succession with the same input, computed as one product.

    The first call computes all outputs. The others return their part as long as the input is the same object.
    """

    __slots__ = ("_input", "_outputs", "_sizes", "product")

    def __init__(self, product: FastLinear, sizes: list[int]) -> None:
        #: Computes the outputs of all layers side by side.
        self.product = product
        self._sizes = sizes
        self._input: torch.Tensor | None = None
        self._outputs: tuple[torch.Tensor, ...] = ()

    @property
    def num_parts(self) -> int:
        return len(self._sizes)

    def part(self, index: int, x: torch.Tensor) -> torch.Tensor:
        if x is not self._input:
            self._input, self._outputs = x, self.product.forward(x).split_with_sizes(self._sizes, dim=-1)
        output = self._outputs[index]
        if index == len(self._sizes) - 1:
            self._input, self._outputs = None, ()
        return output


class FusedPart(nn.Module):
    """One layer of a FusedLinear."""

    def __init__(self, fused: FusedLinear, index: int) -> None:
        super().__init__()
        self.fused = fused
        self._index = index

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fused.part(self._index, x)


def pack_linears(model: PreTrainedModel, probe: Callable[[], object], packer: Packer | Int8Packer) -> None:
    """Replace every linear layer of the model. `probe` runs one forward pass to find layers that share an
    input.

    The original weights are freed one layer after the other (a tied embedding keeps its own). GPT-2's Conv1D
    is a linear layer with a transposed weight, and is replaced too.
    """
    names = {module: name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}
    groups = _by_input(list(names), probe)
    while groups:
        group = groups.pop()
        weight, bias = _joined(group)
        product = packer.pack(weight, bias)
        for layer, replacement in zip(group, _replacements(product, group), strict=True):
            model.set_submodule(names.pop(layer), replacement)


def _by_input(layers: list[nn.Linear], probe: Callable[[], object]) -> list[list[nn.Linear]]:
    """Group the layers. Layers share a group if each is called once, in succession, with the same tensor."""
    calls: list[tuple[nn.Linear, torch.Tensor]] = []
    hooks = [
        layer.register_forward_pre_hook(lambda module, inputs: calls.append((module, inputs[0])))
        for layer in layers
    ]
    try:
        with torch.inference_mode():
            probe()
    finally:
        for hook in hooks:
            hook.remove()
    called = [layer for layer, _ in calls]
    groups: list[list[nn.Linear]] = []
    last: torch.Tensor | None = None
    for layer, given in calls:
        if called.count(layer) > 1:
            continue
        if given is last:
            groups[-1].append(layer)
        else:
            groups.append([layer])
        last = given
    alone = [[layer] for layer in layers if called.count(layer) != 1]
    return groups + alone


def _joined(group: list[nn.Linear]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Concatenated weight [out, in] and bias of the layers."""
    weights = [_weight(layer) for layer in group]
    weight = weights[0] if len(group) == 1 else torch.cat(weights)
    if all(layer.bias is None for layer in group):
        return weight, None
    return weight, torch.cat([_bias(layer) for layer in group])


def _weight(layer: nn.Linear) -> torch.Tensor:
    weight: torch.Tensor = layer.weight.data
    return weight.t() if isinstance(layer, Conv1D) else weight


def _bias(layer: nn.Linear) -> torch.Tensor:
    bias: torch.Tensor | None = layer.bias
    return torch.zeros(len(_weight(layer)), dtype=layer.weight.dtype) if bias is None else bias.data


def _replacements(product: FastLinear, group: list[nn.Linear]) -> list[nn.Module]:
    if len(group) == 1:
        return [product]
    fused = FusedLinear(product, [len(_weight(layer)) for layer in group])
    return [FusedPart(fused, index) for index in range(len(group))]
