from __future__ import annotations

import torch

from shared.domain.sampling import SamplingParams
from workers.engine.batching.paged_batch import PagedBatch, idle_batch, make_paged_batch
from workers.engine.placement.page_pool import PAGE, PagePool
from workers.engine.scheduling.plan import Plan, Row
from workers.engine.scheduling.sequence import Sequence

CPU = torch.device("cpu")


def row(slot: int, start: int, count: int, length: int) -> Row:
    sequence = Sequence("r", 0, SamplingParams(max_tokens=1, seed=0), list(range(length)), length)
    return Row(sequence, slot, start, count)


def mixed(*, wants_all: bool = False) -> PagedBatch:
    """Decoding rows of two slots, one of them beyond its first page, and a chunk that does not draw yet."""
    pool = PagePool(None)
    rows = (row(0, 4, 1, 5), row(2, PAGE, 1, PAGE + 1), row(1, 3, 4, 20))
    for each in rows:
        pool.reach(each.slot, each.sequence.num_tokens)
    return make_paged_batch(Plan(rows, wants_all=wants_all), pool, CPU)


def test_rows_are_concatenated_with_their_pages() -> None:
    batch = mixed()
    assert batch.input_ids.tolist() == batch.positions.tolist() == [[4, PAGE, 3, 4, 5, 6]]
    first, second, third = PAGE, 3 * PAGE, 4 * PAGE
    assert batch.cells.tolist() == [first + 4, second, third + 3, third + 4, third + 5, third + 6]
    assert batch.query_ends.tolist() == [0, 1, 2, 6]
    assert (batch.num_keys.tolist(), batch.key_ends.tolist()) == ([5, PAGE + 1, 7], [0, 5, 262, 269])
    assert batch.page_table.tolist() == [[1, 0], [2, 3], [4, 0]]
    assert (batch.max_queries, batch.max_keys, batch.num_rows) == (4, PAGE + 1, 3)
    for tensor in (batch.query_ends, batch.num_keys, batch.key_ends, batch.page_table):
        assert (tensor.dtype, tensor.is_contiguous()) == (torch.int32, True)


def test_drawing_rows_or_all_tokens_have_logits() -> None:
    assert mixed().logit_indices.tolist() == [0, 1]
    assert mixed(wants_all=True).logit_indices.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_scored_prompt_has_logits_of_its_tokens() -> None:
    pool = PagePool(None)
    scored, plain = row(1, 2, 3, 9), row(2, 1, 3, 4)
    scored.sequence.num_prompt_scored = 3
    for each in (scored, plain):
        pool.reach(each.slot, each.sequence.num_tokens)
    assert make_paged_batch(Plan((scored, plain)), pool, CPU).logit_indices.tolist() == [1, 2, 5]
    assert make_paged_batch(Plan((scored,), wants_all=True), pool, CPU).logit_indices.tolist() == [0, 1, 2]


def test_idle_rows_have_one_key_on_the_scratch_page() -> None:
    batch = idle_batch(3, PAGE + 1, CPU)
    assert (batch.cells.tolist(), batch.num_keys.tolist()) == ([0, 0, 0], [1, 1, 1])
    assert batch.page_table.tolist() == [[0, 0]] * 3
    assert batch.query_ends.tolist() == batch.key_ends.tolist() == [0, 1, 2, 3]


def test_layers_on_another_device_share_one_copy() -> None:
    batch = mixed()
    assert batch.on(CPU) is batch
    meta = torch.device("meta")
    assert batch.on(meta) is batch.on(meta)
    assert (batch.on(meta).cells.device, batch.on(meta).max_keys) == (meta, batch.max_keys)
