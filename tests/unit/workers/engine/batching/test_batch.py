from __future__ import annotations

from dataclasses import replace

import torch

from shared.domain.sampling import SamplingParams
from workers.engine.batching.batch import Batch, make_batch
from workers.engine.placement.shelf import SlotLocation
from workers.engine.scheduling.plan import Plan, Row
from workers.engine.scheduling.sequence import Sequence

CPU = torch.device("cpu")
INF = float("inf")


def row(slot: int, num_tokens: int, start: int, count: int) -> Row:
    sampling = SamplingParams(max_tokens=1, seed=0)
    tokens = [100 * slot + i for i in range(num_tokens)]
    return Row(Sequence("r", 0, sampling, tokens, num_tokens), slot, start, count)


def batch_of(plan: Plan, shelves: dict[int, int] | None = None) -> Batch:
    """Slot i has index i on its shelf. By default all slots share one shelf."""
    locations = {row.slot: SlotLocation((shelves or {}).get(row.slot, 512), row.slot) for row in plan.rows}
    return make_batch(plan, locations, CPU)


def test_tokens_of_all_rows_are_concatenated() -> None:
    batch = batch_of(Plan((row(0, 4, 3, 1), row(2, 9, 2, 3), row(1, 2, 0, 2))))
    assert batch.input_ids.tolist() == [[3, 100, 101, 202, 203, 204]]
    assert batch.positions.tolist() == [[3, 0, 1, 2, 3, 4]]
    assert batch.logit_indices.tolist() == [0, 2]
    (part,) = batch.parts
    assert part.token_slots.tolist() == [0, 1, 1, 2, 2, 2]
    assert [group.tokens for group in part.groups] == [slice(0, 1), slice(1, 3), slice(3, 6)]


def test_a_scored_prompt_has_logits_of_its_tokens() -> None:
    scored, plain = row(1, 9, 2, 3), row(2, 4, 1, 3)
    scored.sequence.num_prompt_scored = 3
    assert batch_of(Plan((row(0, 4, 3, 1), scored, plain))).logit_indices.tolist() == [0, 2, 3, 6]
    assert batch_of(Plan((scored,), wants_all=True)).logit_indices.tolist() == [0, 1, 2]


def test_each_shelf_is_a_part_and_logits_keep_the_plans_order() -> None:
    rows = (row(0, 600, 599, 1), row(1, 4, 3, 1), row(2, 9, 8, 1), row(3, 700, 698, 2))
    batch = batch_of(Plan(rows), {0: 1024, 3: 1024})
    assert batch.input_ids.tolist() == [[103, 208, 599, 998, 999]]
    assert batch.logit_indices.tolist() == [2, 0, 1, 4]
    assert [(part.shelf, part.tokens) for part in batch.parts] == [(512, slice(0, 2)), (1024, slice(2, 5))]
    assert [[group.tokens for group in part.groups] for part in batch.parts] == [
        [slice(0, 2)],
        [slice(2, 3), slice(3, 5)],
    ]


def test_a_draft_has_logits_after_the_token_before_it_and_after_each_of_its_own() -> None:
    drafted = replace(row(2, 9, 8, 3), draft=(5, 6))
    batch = batch_of(Plan((row(0, 4, 3, 1), row(1, 9, 2, 3), drafted)))
    assert batch.input_ids.tolist() == [[3, 102, 103, 104, 208, 5, 6]]
    assert batch.positions.tolist() == [[3, 2, 3, 4, 8, 9, 10]]
    assert batch.logit_indices.tolist() == [0, 4, 5, 6]


def test_a_step_decodes_if_each_row_has_one_own_token() -> None:
    drafted = replace(row(2, 9, 8, 3), draft=(5, 6))
    assert batch_of(Plan((row(0, 4, 3, 1), drafted))).is_decoding
    assert not batch_of(Plan((row(0, 4, 3, 1), row(2, 9, 8, 3)))).is_decoding
    assert not batch_of(Plan((replace(row(2, 9, 8, 3), draft=(6,)),))).is_decoding


def test_adjacent_slots_are_read_in_place() -> None:
    (group,) = batch_of(Plan((row(1, 4, 3, 1), row(2, 9, 8, 1)))).parts[0].groups
    assert (group.slots, group.num_slots, group.row_slots) == (slice(1, 3), 2, None)


def test_an_idle_slot_between_is_read_too_and_scattered_slots_are_gathered() -> None:
    (near,) = batch_of(Plan((row(1, 4, 3, 1), row(3, 9, 8, 1)))).parts[0].groups
    assert near.slots == slice(1, 4)
    assert near.row_slots is not None and near.row_slots.tolist() == [0, 2]
    (far,) = batch_of(Plan((row(0, 4, 3, 1), row(7, 9, 8, 1)))).parts[0].groups
    assert isinstance(far.slots, torch.Tensor) and far.slots.tolist() == [0, 7]


def test_bias_hides_later_keys_and_those_before_the_window() -> None:
    (group,) = batch_of(Plan((row(0, 6, 2, 2),))).parts[0].groups
    # Tokens 2 and 3: without a window all see the first two keys, which are left out then.
    assert group.bias(None, 16)[0, 0, 0, :2, :3].tolist() == [[0, -INF, -INF], [0, 0, -INF]]
    assert group.bias(2, 16)[0, 0, 0, :2, :5].tolist() == [[-INF, 0, 0, -INF, -INF], [-INF, -INF, 0, 0, -INF]]


def test_cells_count_through_slots_heads_and_positions() -> None:
    batch = batch_of(Plan((row(1, 4, 3, 1), row(2, 3, 0, 2))))
    assert batch.parts[0].cells(num_heads=2, length=10).tolist() == [23, 40, 41, 33, 50, 51]
