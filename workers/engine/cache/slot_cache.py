"""SlotCache: the keys and values of all running sequences, each in its own slot."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from transformers.cache_utils import Cache

from workers.engine.batching.batch import Batch, make_batch
from workers.engine.cache.slot_states import SlotStates
from workers.engine.linear.onednn import can_pack
from workers.engine.placement.shelf import Shelf, SlotLocation
from workers.engine.scheduling.kv_budget import FIRST_LENGTH, KVBudget
from workers.engine.scheduling.plan import Plan

#: A shelf of long slots releases unused memory after this many steps with at most a quarter of it in use.
_PATIENCE = 1000
#: Keys and values [kv heads, tokens, head dim] of each layer, in order of creation.
KVSpan = list[tuple[torch.Tensor, ...]]


def uses_onednn(states: torch.Tensor) -> bool:
    """Whether oneDNN computes products of these tensors: on CPUs with instructions for the 16-bit type."""
    return (
        states.device.type == "cpu"
        and states.dtype != torch.float32
        and can_pack(states.device, states.dtype)
    )


class SlotLayer:
    """One layer's keys and values of one shelf, [slots, kv heads, length, head dim]."""

    def __init__(self, length: int, like_keys: torch.Tensor, like_values: torch.Tensor) -> None:
        self._keys, self._values = SlotStates(length, like_keys), SlotStates(length, like_values)

    @property
    def keys(self) -> torch.Tensor:
        return self._keys.tensor

    @property
    def values(self) -> torch.Tensor:
        return self._values.tensor

    def readable(self, num_keys: int) -> int:
        """The number of keys to read when `num_keys` are needed: all, if copying a part would cost more."""
        length = self.keys.shape[2]
        return length if 3 * length < 4 * num_keys and uses_onednn(self.keys) else num_keys

    def resize(self, num_slots: int, max_slots: int | None) -> bool:
        """Like SlotStates.resize."""
        keys_moved = self._keys.resize(num_slots, max_slots)
        return self._values.resize(num_slots, max_slots) or keys_moved

    def is_finite(self, index: int, num_tokens: int) -> bool:
        """Whether the values of a slot's first tokens are neither NaN nor infinite."""
        return bool(self.values[index, :, :num_tokens].sum(dtype=torch.float32).isfinite())

    def clear(self, index: int, num_tokens: int) -> None:
        """Set the first tokens of a slot to zero."""
        for states in (self.keys, self.values):
            states[index, :, :num_tokens] = 0

    def copy(self, index: int, source: SlotLayer, source_index: int) -> None:
        """Copy the contents of another slot."""
        length = min(self.keys.shape[2], source.keys.shape[2])
        self.keys[index, :, :length] = source.keys[source_index, :, :length]
        self.values[index, :, :length] = source.values[source_index, :, :length]


class LayerCache:
    """One layer's keys and values, by shelf.

    It replaces the key and value tensors, which the model's attention module only passes on to the attention
    function. A module with its own attention that accesses them fails at once and does not compute something
    wrong.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Start without shelves. `keys` and `values`, [1, kv heads, T, head dim], define dtype, device and
        shape."""
        self._like = keys[:, :, :0], values[:, :, :0]
        self.shelves: dict[int, SlotLayer] = {}
        self.num_writes = 0
        self.num_reads = 0
        self._batch: Batch | None = None

    @property
    def key_dim(self) -> int:
        return self._like[0].shape[3]

    @property
    def device(self) -> torch.device:
        return self._like[0].device

    @property
    def value_dim(self) -> int:
        return self._like[1].shape[3]

    @property
    def num_heads(self) -> int:
        """Number of key-value heads."""
        return self._like[0].shape[1]

    @property
    def token_bytes(self) -> int:
        """Bytes per token."""
        return sum(like.shape[1] * like.shape[3] * like.element_size() for like in self._like)

    def write(self, batch: Batch, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write the step's keys and values, [1, kv heads, T, head dim], to their slots."""
        self._batch = batch
        self.num_writes += 1
        for part in batch.parts:
            layer = self.shelves[part.shelf]
            cells = part.cells(layer.keys.shape[1], layer.keys.shape[2])
            for cached, states in ((layer.keys, keys), (layer.values, values)):
                dim = states.shape[3]
                cached.view(-1, dim).index_copy_(0, cells, states[:, :, part.tokens].reshape(-1, dim))

    def read(self) -> Batch:
        """The batch that was written last, to attend over."""
        assert self._batch is not None
        self.num_reads += 1
        return self._batch

    def resize(self, shelf: int, num_slots: int, max_slots: int | None) -> bool:
        """Like SlotStates.resize."""
        if num_slots == 0:
            return self.shelves.pop(shelf, None) is not None
        if shelf not in self.shelves:
            self.shelves[shelf] = SlotLayer(shelf, *self._like)
        return self.shelves[shelf].resize(num_slots, max_slots)


class SlotCache(Cache):  # type: ignore[misc]  # transformers is untyped
    """What the model's attention modules call to store keys and values.

    Layers are created at their first update, with the shapes of that update. A shelf has slots of one length,
    so a long sequence costs its neighbours nothing. A sequence that outgrows its slot moves to the next
    shelf. Shelves grow as slots are used. Shelves of long slots shrink after they have been mostly unused for
    some time, or when others need the memory, because allocating it again may delay a step.
    """

    def __init__(self, budget: KVBudget) -> None:
        super().__init__(layers=[])
        self._budget = budget
        self._shelves: dict[int, Shelf] = {}
        #: The shelf of each sequence slot in use.
        self._shelf_of: dict[int, int] = {}
        #: How many tokens were written to each sequence slot in use.
        self._num_written: dict[int, int] = {}
        self._layers: dict[int, LayerCache] = {}
        self._batch: Batch | None = None
        #: Increases whenever keys and values move to other memory.
        self.generation = 0

    @property
    def layer_caches(self) -> list[LayerCache]:
        return list(self._layers.values())

    @property
    def num_tokens(self) -> int:
        """Tokens for which memory is allocated."""
        return sum(shelf.capacity * name for name, shelf in self._shelves.items())

    def begin(self, plan: Plan, device: torch.device) -> Batch:
        """Allocate slots for a plan that has at least one row. The following updates belong to it."""
        self._free(plan.freed)
        for row in plan.rows:
            self._settle(row.slot, row.room)
        for sequence in plan.admitted:
            assert sequence.slot is not None
            self._settle(sequence.slot, sequence.num_tokens)
            self._num_written[sequence.slot] = sequence.num_computed
        for row in plan.rows:
            self._num_written[row.slot] = max(row.end, self._num_written.get(row.slot, 0))
        if not self._budget.fits(self.num_tokens):
            for name in self._shelves:
                self._compact(name)
        self._batch = make_batch(plan, {row.slot: self._location(row.slot) for row in plan.rows}, device)
        return self._batch

    def copy_out(self, slot: int, start: int, end: int) -> KVSpan:
        """Copy the keys and values of tokens `start` to `end` out of a slot."""
        at = self._location(slot)
        layers = (layer.shelves[at.shelf] for layer in self._layers.values())
        return [tuple(x[at.slot_index, :, start:end].clone() for x in (o.keys, o.values)) for o in layers]

    def copy_in(self, slot: int, start: int, span: KVSpan) -> None:
        """Copy a span into a slot."""
        at = self._location(slot)
        for layer, copied in zip(self._layers.values(), span, strict=True):
            own = layer.shelves[at.shelf]
            for cached, states in zip((own.keys, own.values), copied, strict=True):
                cached[at.slot_index, :, start : start + states.shape[1]] = states

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_args: Any,
        **_kwargs: Any,
    ) -> tuple[LayerCache, LayerCache]:
        layer = self.layer(layer_idx, key_states, value_states)
        layer.write(self.batch, key_states, value_states)
        return layer, layer

    @property
    def batch(self) -> Batch:
        """The batch of the current step."""
        assert self._batch is not None
        return self._batch

    def layer(self, index: int, like_keys: torch.Tensor, like_values: torch.Tensor) -> LayerCache:
        """Return a layer's cache. Created at its first use, for states like these [1, kv heads, any, head
        dim]."""
        layer = self._layers.get(index)
        if layer is None:
            layer = self._layers[index] = LayerCache(like_keys, like_values)
            for name, shelf in self._shelves.items():
                layer.resize(name, shelf.capacity, self._budget.max_slots(name))
        return layer

    def _location(self, slot: int) -> SlotLocation:
        name = self._shelf_of[slot]
        return SlotLocation(name, self._shelves[name].slot_indices[slot])

    def _free(self, slots: Iterable[int]) -> None:
        for slot in slots:
            # A sequence slot may come and go between two steps without a row.
            if slot in self._shelf_of:
                self._clear_if_infinite(slot)
                self._shelves[self._shelf_of.pop(slot)].leave(slot)
        for name, shelf in self._shelves.items():
            shelf.idle_steps = shelf.idle_steps + 1 if 4 * len(shelf.slot_indices) <= shelf.capacity else 0
            if name > FIRST_LENGTH and shelf.idle_steps > _PATIENCE:
                self._compact(name)

    def _clear_if_infinite(self, slot: int) -> None:
        """Clear a slot that holds NaN or infinities. A later sequence reads masked keys with weight 0, and 0 times
        NaN is NaN. What one layer makes infinite is so in the last layer as well."""
        at, num_tokens = self._location(slot), self._num_written.pop(slot, 0)
        layers = [layer.shelves[at.shelf] for layer in self._layers.values()]
        if layers and not layers[-1].is_finite(at.slot_index, num_tokens):
            for layer in layers:
                layer.clear(at.slot_index, num_tokens)

    def _settle(self, slot: int, num_tokens: int) -> None:
        """Give a sequence slot enough memory, moving its contents if needed."""
        assert num_tokens <= self._budget.max_len
        name, old = self._budget.charge(num_tokens), self._shelf_of.get(slot)
        if old == name:
            return
        self._shelf_of[slot] = name
        self._shelves.setdefault(name, Shelf()).take(slot)
        self._reserve(name)
        if old is not None:
            for layer in self._layers.values():
                source, index = layer.shelves[old], self._shelves[old].slot_indices[slot]
                layer.shelves[name].copy(self._location(slot).slot_index, source, index)
            self._shelves[old].leave(slot)

    def _reserve(self, name: int) -> None:
        """Grow a shelf that is too small.

        It at least doubles, so that copying costs a bounded share of what was written. If there is no memory
        for that, every shelf shrinks to what is in use.
        """
        shelf = self._shelves[name]
        if shelf.extent <= shelf.capacity:
            return
        more = max(shelf.extent, 2 * shelf.capacity) - shelf.capacity
        if self._budget.fits(self.num_tokens + more * name):
            shelf.capacity += more
        else:
            for other in [other for other in self._shelves if other != name]:
                self._compact(other)
            shelf.capacity = shelf.extent
        self._resize(name)

    def _compact(self, name: int) -> None:
        shelf = self._shelves[name]
        for source, target in shelf.compact():
            for layer in self._layers.values():
                layer.shelves[name].copy(target, layer.shelves[name], source)
        if shelf.capacity != len(shelf.slot_indices):
            shelf.capacity = len(shelf.slot_indices)
            self._resize(name)

    def _resize(self, name: int) -> None:
        capacity, max_slots = self._shelves[name].capacity, self._budget.max_slots(name)
        moved = [layer.resize(name, capacity, max_slots) for layer in self._layers.values()]
        self.generation += any(moved)
