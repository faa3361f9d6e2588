"""PagedCache: the keys and values of all running sequences on pages, as GPU attention kernels read them."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache

from workers.engine.batching.paged_batch import PagedBatch, make_paged_batch
from workers.engine.cache.slot_cache import KVSpan
from workers.engine.placement.page_pool import PAGE, PagePool, Segment
from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.plan import Plan


class PagedLayer:
    """One layer's keys and values, [pages, tokens per page, kv heads, dim].

    Like `LayerCache`, it replaces the key and value tensors, which the model's attention module only passes
    on.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, num_pages: int) -> None:
        """Allocate zeroed pages. `keys` and `values`, [1, kv heads, T, dim], define dtype, device and shape."""
        self.keys, self.values = (
            like.new_zeros(num_pages, PAGE, like.shape[1], like.shape[3]) for like in (keys, values)
        )
        self.num_writes = 0
        self.num_reads = 0
        #: Whether the last attention used torch's kernel and not the one in plain torch.
        self.is_flash = False
        self._batch: PagedBatch | None = None

    @property
    def key_dim(self) -> int:
        return self.keys.shape[3]

    @property
    def device(self) -> torch.device:
        return self.keys.device

    @property
    def token_bytes(self) -> int:
        """Bytes per token."""
        return sum(x.shape[2] * x.shape[3] * x.element_size() for x in (self.keys, self.values))

    def write(self, batch: PagedBatch, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write the step's keys and values, [1, kv heads, T, dim], to their pages."""
        self._batch = batch.on(self.device)
        self.num_writes += 1
        for cached, states in ((self.keys, keys), (self.values, values)):
            cached.flatten(0, 1).index_copy_(0, self._batch.cells, states[0].transpose(0, 1))

    def read(self) -> PagedBatch:
        """The batch that was written last, to attend over."""
        assert self._batch is not None
        self.num_reads += 1
        return self._batch

    def is_finite(self, pages: list[int]) -> bool:
        """Whether the values on these pages are neither NaN nor infinite."""
        return bool(self.values[pages].sum(dtype=torch.float32).isfinite())

    def clear(self, pages: list[int]) -> None:
        """Set these pages to zero."""
        for states in (self.keys, self.values):
            states[pages] = 0

    def resize(self, num_pages: int) -> None:
        """Change the number of pages and keep their contents."""
        self.keys, self.values = (_resized(x, num_pages) for x in (self.keys, self.values))

    def copy_out(self, segments: list[Segment]) -> tuple[torch.Tensor, ...]:
        """Copy keys and values out, each [kv heads, tokens, dim]."""
        return tuple(
            torch.cat([x[at.page, at.start : at.end] for at in segments]).transpose(0, 1).contiguous()
            for x in (self.keys, self.values)
        )

    def copy_in(self, segments: list[Segment], span: tuple[torch.Tensor, ...]) -> None:
        for cached, states in zip((self.keys, self.values), span, strict=True):
            parts = torch.split(states.transpose(0, 1), [at.end - at.start for at in segments])
            for at, part in zip(segments, parts, strict=True):
                cached[at.page, at.start : at.end] = part


def _resized(cached: torch.Tensor, num_pages: int) -> torch.Tensor:
    resized = cached.new_zeros(num_pages, *cached.shape[1:])
    resized[: len(cached)] = cached
    return resized


class PagedCache(Cache):  # type: ignore[misc]  # transformers is untyped
    """What the model's attention modules call to store keys and values. Same interface as `SlotCache`.

    Layers are created at their first update, on the device and with the shapes of that update. If the budget
    is bounded, all pages are allocated then and never move, so that CUDA graphs can be captured over them.
    Otherwise the number of pages doubles as needed.
    """

    def __init__(self, budget: KVBudget) -> None:
        super().__init__(layers=[])
        assert budget.page == PAGE
        #: Maximum length of a sequence, in tokens.
        self.max_len = budget.max_len
        self.is_bounded = budget.max_tokens is not None
        self._pool = PagePool(None if budget.max_tokens is None else budget.max_tokens // PAGE)
        self._layers: dict[int, PagedLayer] = {}
        self._batch: PagedBatch | None = None

    @property
    def layer_caches(self) -> list[PagedLayer]:
        return list(self._layers.values())

    @property
    def num_tokens(self) -> int:
        """Tokens that fit on the pages in use."""
        return self._pool.num_used * PAGE

    def begin(self, plan: Plan, device: torch.device) -> PagedBatch:
        """Allocate pages for a plan that has at least one row. The following updates belong to it."""
        for slot in plan.freed:
            self._clear_if_infinite(self._pool.pages(slot))
            self._pool.release(slot)
        for row in plan.rows:
            self._pool.reach(row.slot, row.room)
        for sequence in plan.admitted:
            assert sequence.slot is not None
            self._pool.reach(sequence.slot, sequence.num_tokens)
        for layer in self._layers.values():
            if len(layer.keys) < self._pool.capacity:
                layer.resize(self._pool.capacity)
        batch = make_paged_batch(plan, self._pool, device)
        self.use(batch)
        return batch

    def _clear_if_infinite(self, pages: list[int]) -> None:
        """Clear pages that hold NaN or infinities. A later sequence reads masked keys with weight 0, and 0 times NaN
        is NaN. What one layer makes infinite is so in the last layer as well."""
        layers = self.layer_caches
        if pages and layers and not layers[-1].is_finite(pages):
            for layer in layers:
                layer.clear(pages)

    def use(self, batch: PagedBatch) -> None:
        """Set the batch that the following updates belong to."""
        self._batch = batch

    def copy_out(self, slot: int, start: int, end: int) -> KVSpan:
        """Copy the keys and values of tokens `start` to `end` out of a slot."""
        segments = list(self._pool.segments(slot, start, end))
        return [layer.copy_out(segments) for layer in self._layers.values()]

    def copy_in(self, slot: int, start: int, span: KVSpan) -> None:
        """Copy a span into a slot."""
        segments = list(self._pool.segments(slot, start, start + span[0][0].shape[1]))
        for layer, copied in zip(self._layers.values(), span, strict=True):
            layer.copy_in(segments, copied)

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_args: Any,
        **_kwargs: Any,
    ) -> tuple[PagedLayer, PagedLayer]:
        assert self._batch is not None
        if layer_idx not in self._layers:
            self._layers[layer_idx] = PagedLayer(key_states, value_states, self._pool.capacity)
        layer = self._layers[layer_idx]
        layer.write(self._batch, key_states, value_states)
        return layer, layer
