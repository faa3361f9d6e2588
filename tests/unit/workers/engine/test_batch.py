from __future__ import annotations

import torch

from shared.sampling import SamplingParams
from workers.engine.batch import make_batch
from workers.engine.scheduler import Plan, Row
from workers.engine.sequence import Sequence

CPU = torch.device("cpu")
INF = float("inf")


def row(slot: int, num_tokens: int, start: int, count: int) -> Row:
    sampling = SamplingParams(max_tokens=1, seed=0)
    tokens = [100 * slot + i for i in range(num_tokens)]
    return Row(Sequence("r", 0, sampling, tokens, num_tokens), slot, start, count)


def test_tokens_of_all_rows_lie_side_by_side() -> None:
    batch = make_batch(Plan((row(0, 4, 3, 1), row(2, 9, 2, 3), row(1, 2, 0, 2))), CPU)
    assert batch.input_ids.tolist() == [[3, 202, 203, 204, 100, 101]]
    assert batch.positions.tolist() == [[3, 2, 3, 4, 0, 1]]
    assert batch.slots.tolist() == [0, 2, 2, 2, 1, 1]
    assert batch.logit_indices.tolist() == [0, 5]
    assert (batch.num_slots, batch.length) == (3, 5)


def test_neighbouring_slots_are_read_in_place() -> None:
    (group,) = make_batch(Plan((row(1, 4, 3, 1), row(2, 9, 8, 1))), CPU).groups
    assert (group.slots, group.num_slots, group.places) == (slice(1, 3), 2, None)


def test_idle_slot_between_is_read_too_and_scattered_slots_are_copied_together() -> None:
    (near,) = make_batch(Plan((row(1, 4, 3, 1), row(3, 9, 8, 1))), CPU).groups
    assert near.slots == slice(1, 4)
    assert near.places is not None and near.places.tolist() == [0, 2]
    (far,) = make_batch(Plan((row(0, 4, 3, 1), row(7, 9, 8, 1))), CPU).groups
    assert isinstance(far.slots, torch.Tensor) and far.slots.tolist() == [0, 7]


def test_bias_hides_later_keys_and_those_before_the_window() -> None:
    (group,) = make_batch(Plan((row(0, 6, 2, 2),)), CPU).groups
    assert group.bias(None, 16)[0, 0, 0, :2, :5].tolist() == [[0, 0, 0, -INF, -INF], [0, 0, 0, 0, -INF]]
    assert group.bias(2, 16)[0, 0, 0, :2, :5].tolist() == [[-INF, 0, 0, -INF, -INF], [-INF, -INF, 0, 0, -INF]]


def test_cells_count_through_slots_heads_and_positions() -> None:
    batch = make_batch(Plan((row(1, 4, 3, 1), row(2, 3, 0, 2))), CPU)
    assert batch.cells(num_heads=2, length=10).tolist() == [23, 40, 41, 33, 50, 51]
