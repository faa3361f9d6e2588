"""SlotCache: the keys and values of all running sequences, each in a slot of its own."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache

from workers.engine.batch import Batch, round_up
from workers.engine.linear import can_pack

#: Lengths that are allocated are multiples of this, and so of the numbers of keys that a Group reads.
_LENGTH_STEP = 128


def uses_onednn(states: torch.Tensor) -> bool:
    """Whether oneDNN computes products of these: on CPUs with instructions for the 16-bit type."""
    return (
        states.device.type == "cpu"
        and states.dtype != torch.float32
        and can_pack(states.device, states.dtype)
    )


class SlotLayer:
    """One layer's keys and values, [slots, kv heads, length, head dim].

    It takes the place of the key and value tensors on their way through the model's attention module, which
    only hands them on to the attention function. A module that looks inside has an attention of its own, and
    fails at once rather than compute something else.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.keys = keys
        self.values = values
        self.num_writes = 0
        self.num_reads = 0
        self._batch: Batch | None = None

    def write(self, batch: Batch, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Puts the step's keys and values, [1, kv heads, T, head dim], into their slots."""
        self._batch = batch
        self.num_writes += 1
        _, heads, length, dim = self.keys.shape
        cells = batch.cells(heads, length)
        self.keys.view(-1, dim).index_copy_(0, cells, keys.reshape(-1, dim))
        self.values.view(-1, values.shape[3]).index_copy_(0, cells, values.reshape(-1, values.shape[3]))

    def read(self) -> Batch:
        """The step that was written last, to attend to."""
        assert self._batch is not None
        self.num_reads += 1
        return self._batch

    def readable(self, num_keys: int) -> int:
        """How many keys to read where these are needed: all, if a part of them would cost more."""
        length = self.keys.shape[2]
        # oneDNN copies what does not lie dense, which costs more than to compute twice as much.
        return length if length <= 2 * num_keys and uses_onednn(self.keys) else num_keys

    def grow(self, num_slots: int, length: int) -> None:
        self.keys = _grown(self.keys, num_slots, length)
        self.values = _grown(self.values, num_slots, length)


def _grown(tensor: torch.Tensor, num_slots: int, length: int) -> torch.Tensor:
    old_slots, heads, old_length, dim = tensor.shape
    grown = tensor.new_zeros(num_slots, heads, length, dim)
    grown[:old_slots, :, :old_length] = tensor
    return grown


class SlotCache(Cache):  # type: ignore[misc]  # transformers is untyped
    """What the model's attention modules call to store keys and values.

    Layers are made at their first update, from the shapes that come; slots and length grow as sequences do.
    """

    def __init__(self, *, max_slots: int, max_len: int) -> None:
        super().__init__(layers=[])
        self._max_slots = max_slots
        self._max_len = round_up(max_len, _LENGTH_STEP)
        self._num_slots = 1
        self._length = _LENGTH_STEP
        self._layers: dict[int, SlotLayer] = {}
        self._batch: Batch | None = None

    @property
    def slot_layers(self) -> list[SlotLayer]:
        return list(self._layers.values())

    def begin(self, batch: Batch) -> None:
        """Makes room for a step; the updates that follow belong to it."""
        self._batch = batch
        self._reserve(batch.num_slots, batch.length)

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_args: Any,
        **_kwargs: Any,
    ) -> tuple[SlotLayer, SlotLayer]:
        assert self._batch is not None
        if layer_idx not in self._layers:
            self._layers[layer_idx] = SlotLayer(self._empty(key_states), self._empty(value_states))
        layer = self._layers[layer_idx]
        layer.write(self._batch, key_states, value_states)
        return layer, layer

    def _empty(self, states: torch.Tensor) -> torch.Tensor:
        return states.new_zeros(self._num_slots, states.shape[1], self._length, states.shape[3])

    def _reserve(self, num_slots: int, length: int) -> None:
        """At least doubles what is too small, so that copying costs a bounded share of what was written."""
        assert num_slots <= self._max_slots and length <= self._max_len
        if num_slots <= self._num_slots and length <= self._length:
            return
        if num_slots > self._num_slots:
            self._num_slots = min(max(num_slots, 2 * self._num_slots), self._max_slots)
        if length > self._length:
            self._length = min(round_up(max(length, 2 * self._length), _LENGTH_STEP), self._max_len)
        for layer in self._layers.values():
            layer.grow(self._num_slots, self._length)
