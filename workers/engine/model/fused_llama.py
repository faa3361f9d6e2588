"""FusedLlama: a Llama decoder with a few large operations in place of many small ones.

Llama, Mistral, Qwen 2 and Qwen 3 differ only in their sliding window, biases and query-key norms. Four
operations of `workers.native` run between the matrix products of a layer; `linear` computes the products. In
steps with few rows they save most of the time otherwise spent on calls and on small tensors.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from workers.engine.batching.batch import Part
from workers.engine.cache.slot_cache import SlotCache
from workers.engine.linear.fusion import FusedPart
from workers.engine.linear.onednn import computed_rows
from workers.engine.linear.tiled import TiledLinear
from workers.native.ops import (
    LANES,
    HeadNorms,
    HeadShape,
    RMSNorm,
    Rotation,
    SiluGate,
    SlotAttention,
    has_operations,
    new_recording,
)
from workers.native.recording import Recording
from workers.native.scratch import Scratch

#: Cosines and sines of the step's positions, each [T, dim].
_Angles = tuple[torch.Tensor, torch.Tensor]

#: For each part of a step: its shelf, first token, end token and number of rows.
_Shape = tuple[tuple[int, int, int, int], ...]

#: Decoder classes of transformers that this module can replace.
_DECODERS = frozenset({"LlamaModel", "MistralModel", "Qwen2Model", "Qwen3Model"})
#: Maximum number of step shapes kept recorded, least recently used first out. Speculation yields hundreds.
_MAX_RECORDED = 64
#: Memory shared by recorded steps is allocated for multiples of this many tokens.
_MEMORY_STEP = 64


def fuse_decoder(model: PreTrainedModel) -> None:
    """Replace a supported model's decoder in place. Its linear layers must have been packed."""
    decoder = model.base_model
    if decoder is not model and _is_fusible(decoder):
        model.set_submodule(model.base_model_prefix, FusedLlama(decoder))


def _is_fusible(decoder: Any) -> bool:
    if type(decoder).__name__ not in _DECODERS or not has_operations(decoder.device, decoder.dtype):
        return False
    config = decoder.config
    dim = decoder.layers[0].self_attn.head_dim
    widths_fit = all(width % LANES == 0 for width in (config.hidden_size, config.intermediate_size))
    joined = all(
        isinstance(part, FusedPart) and part.fused.num_parts == number
        for layer in decoder.layers
        for part, number in ((layer.self_attn.q_proj, 3), (layer.mlp.gate_proj, 2))
    )
    return widths_fit and dim % (2 * LANES) == 0 and config.hidden_act == "silu" and joined


class FusedLlama(nn.Module):
    """Replaces a `LlamaModel` for calls with a SlotCache."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.config = decoder.config
        self.embed_tokens = decoder.embed_tokens
        self._rotary = decoder.rotary_emb
        memory = Scratch()
        self._layers = [_Layer(layer, index, memory) for index, layer in enumerate(decoder.layers)]
        self._norm = _norm(decoder.norm)
        self._is_native = all(layer.is_native for layer in self._layers)
        #: Recorded steps by cache. The reference is weak because a cache may be larger than everything else.
        self._recorded = WeakKeyDictionary[SlotCache, _RecordedSteps]()

    def forward(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, past_key_values: SlotCache, **_rest: Any
    ) -> BaseModelOutputWithPast:
        """Compute one step. `input_ids` and `position_ids` are [1, T]; returns hidden states [1, T, hidden]."""
        states = self.embed_tokens(input_ids)[0]
        cosines, sines = self._rotary(states, position_ids)
        normed = self._run(past_key_values, states, (cosines[0], sines[0]))
        return BaseModelOutputWithPast(last_hidden_state=normed[None, : len(states)])

    def _run(self, cache: SlotCache, states: torch.Tensor, angles: _Angles) -> torch.Tensor:
        """Return the last hidden states. After a decode step they are valid until the next step."""
        batch = cache.batch
        if self._is_native and batch.is_decoding:
            step = _Step(states, angles, batch.parts)
            return self._recorded_step(cache, step).run(step)
        step = _Step(states if self._is_native else _padded(states), angles, batch.parts)
        self._compute(cache, step)
        return step.normed

    def _recorded_step(self, cache: SlotCache, step: _Step) -> _RecordedStep:
        """Return the recording for the shape of `step`, making it if needed."""
        recorded = self._recorded.get(cache)
        if recorded is None or recorded.generation != cache.generation:
            recorded = self._recorded[cache] = _RecordedSteps(cache.generation)
        if (known := recorded.find(step.shape)) is not None:
            return known
        step.memory, recording = recorded.memory, new_recording()
        with recording.record():
            self._compute(cache, step)
        return recorded.keep(step.shape, _RecordedStep(step, recording))

    def _compute(self, cache: SlotCache, step: _Step) -> None:
        added = None
        for layer in self._layers:
            added = layer.compute(cache, step, added)
        self._norm(step.states, added, step.normed)


def _padded(states: torch.Tensor) -> torch.Tensor:
    """Pad with rows of zeros, so that none of torch's products has to."""
    surplus = computed_rows(len(states)) - len(states)
    return torch.cat([states, states.new_zeros(surplus, states.shape[1])]) if surplus else states


class _Step:
    """State shared by all layers of a forward pass: the residual stream, to which each layer adds, and
    memory."""

    def __init__(self, states: torch.Tensor, angles: _Angles, parts: tuple[Part, ...]) -> None:
        self.states = states
        self.angles = angles
        self.parts = parts
        self.normed = torch.empty_like(states)
        self.memory = Scratch()
        #: The buffers this step uses, by name and width.
        self.used: dict[tuple[str, int], torch.Tensor] = {}

    @property
    def shape(self) -> _Shape:
        return tuple((part.shelf, part.tokens.start, part.tokens.stop, len(part.rows)) for part in self.parts)

    @property
    def inputs(self) -> list[torch.Tensor]:
        """All tensors in which two steps of one shape may differ."""
        of_parts = [(part.token_slots, part.positions, part.row_table) for part in self.parts]
        return [self.states, *self.angles, *chain.from_iterable(of_parts)]

    def scratch(self, name: str, width: int) -> torch.Tensor:
        """A buffer [T, width], shared by all layers. It is zero where nothing has been written."""
        if (name, width) not in self.used:
            self.used[name, width] = self.memory.take(name, len(self.states), width, self.states.dtype)
        return self.used[name, width]

    def multiply(self, linear: Any, x: torch.Tensor, name: str) -> torch.Tensor:
        """Return the linear layer's output, [T, out]. Written to the buffer of that name where possible."""
        if not isinstance(linear, TiledLinear):
            output: torch.Tensor = linear.forward(x)
            return output
        y = self.scratch(name, linear.out_features)
        linear.product(x, y)
        return y


class _RecordedStep:
    """A recorded step: one call computes it, and every other step of the same shape."""

    def __init__(self, step: _Step, recording: Recording) -> None:
        self._inputs = step.inputs
        self._normed = step.normed
        self._used = step.used
        self._recording = recording

    def run(self, step: _Step) -> torch.Tensor:
        for own, given in zip(self._inputs, step.inputs, strict=True):
            own.copy_(given)
        self._recording.run()
        return self._normed


class _RecordedSteps:
    """The latest recorded steps of one cache, by shape. Discarded when the cache's memory moves."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        #: Shared by all steps, since only one is computed at a time.
        self.memory = Scratch(_MEMORY_STEP)
        self._steps: OrderedDict[_Shape, _RecordedStep] = OrderedDict()

    def find(self, shape: _Shape) -> _RecordedStep | None:
        if shape in self._steps:
            self._steps.move_to_end(shape)
        return self._steps.get(shape)

    def keep(self, shape: _Shape, step: _RecordedStep) -> _RecordedStep:
        self._steps[shape] = step
        if len(self._steps) > _MAX_RECORDED:
            self._steps.popitem(last=False)
        return step


class _Layer:
    def __init__(self, layer: Any, index: int, memory: Scratch) -> None:
        """`memory`: shared by all layers, for results that are used up before the next layer."""
        dtype: torch.dtype = layer.input_layernorm.weight.dtype
        self._attention = _Attention(layer.self_attn, index, dtype, memory)
        self._input_norm = _norm(layer.input_layernorm)
        self._output_norm = _norm(layer.post_attention_layernorm)
        self._gate_and_up = layer.mlp.gate_proj.fused.product
        self._down = layer.mlp.down_proj
        self._gate = SiluGate(self._down.in_features, dtype)

    @property
    def is_native(self) -> bool:
        """Whether every product is computed by `workers.native`."""
        products = (*self._attention.products, self._gate_and_up, self._down)
        return all(isinstance(product, TiledLinear) for product in products)

    def compute(self, cache: SlotCache, step: _Step, added: torch.Tensor | None) -> torch.Tensor:
        """Compute this layer. `added` is the previous layer's output; returns this layer's output, not yet
        added."""
        self._input_norm(step.states, added, step.normed)
        self._output_norm(step.states, self._attention.compute(cache, step), step.normed)
        product = step.scratch("product", self._down.in_features)
        self._gate(step.multiply(self._gate_and_up, step.normed, "gated"), product)
        return step.multiply(self._down, product, "down")


class _Attention:
    def __init__(self, attention: Any, index: int, dtype: torch.dtype, memory: Scratch) -> None:
        self._index = index
        self._project = attention.q_proj.fused.product
        self._output = attention.o_proj
        self._shape = shape = _head_shape(attention)
        self._like = torch.empty(1, shape.num_kv_heads, 0, shape.dim, dtype=dtype)
        self._rotate = Rotation(shape, dtype, _head_norms(attention))
        self._attend = SlotAttention(shape, dtype, attention.scaling, _window(attention), memory)

    @property
    def products(self) -> tuple[Any, Any]:
        return self._project, self._output

    def compute(self, cache: SlotCache, step: _Step) -> torch.Tensor:
        joined = step.multiply(self._project, step.normed, "joined")
        heads, dim = self._shape.num_heads, self._shape.dim
        queries, mixed = step.scratch("queries", heads * dim), step.scratch("mixed", heads * dim)
        by_head = queries.view(-1, heads, dim).transpose(0, 1)
        shelves = cache.layer(self._index, self._like, self._like).shelves
        for part in step.parts:
            slots, first = (shelves[part.shelf].keys, shelves[part.shelf].values), part.tokens.start
            self._rotate(joined, step.angles, queries, slots, first, part.token_slots, part.positions)
            self._attend(by_head, slots, part.row_table, mixed)
        return step.multiply(self._output, mixed, "output")


def _norm(norm: Any) -> RMSNorm:
    return RMSNorm(norm.weight.data, norm.variance_epsilon)


def _head_shape(attention: Any) -> HeadShape:
    num_heads = attention.o_proj.in_features // attention.head_dim
    return HeadShape(num_heads, num_heads // attention.num_key_value_groups, attention.head_dim)


def _head_norms(attention: Any) -> HeadNorms | None:
    """The query and key norms of Qwen 3."""
    if not hasattr(attention, "q_norm"):
        return None
    query, key = attention.q_norm, attention.k_norm
    return HeadNorms(query.weight.data, key.weight.data, query.variance_epsilon)


def _window(attention: Any) -> int | None:
    """The sliding window: set per layer, or in Mistral for all layers."""
    window: int | None = getattr(
        attention, "sliding_window", getattr(attention.config, "sliding_window", None)
    )
    return window
