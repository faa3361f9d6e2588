from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from workers.engine.batching.paged_batch import PagedBatch, idle_batch
from workers.engine.model.cuda_graphs import CudaGraphs, row_counts
from workers.engine.placement.page_pool import PAGE

CPU = torch.device("cpu")


class Recording:
    """Stands in for CUDA graphs: computes again from the same tensors into the same output."""

    def __init__(self) -> None:
        self.num_replays = 0

    def __call__(self, compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        output = compute().clone()

        def replay() -> torch.Tensor:
            self.num_replays += 1
            return output.copy_(compute())

        return replay


class Subject:
    """Graphs over a computation that shows its input: one row with each token's fields."""

    def __init__(self, max_rows: int) -> None:
        self.recording = Recording()
        self.seen: list[PagedBatch] = []
        self.graphs = CudaGraphs(self.compute, self.recording, max_keys=3 * PAGE, device=CPU)
        self.graphs.record(max_rows)
        self.seen.clear()

    def compute(self, batch: PagedBatch) -> torch.Tensor:
        self.seen.append(batch)
        fields = [batch.input_ids[0], batch.positions[0], batch.cells, batch.num_keys, batch.key_ends[1:]]
        return torch.stack([field.long() for field in fields], 1).float()


def decoding(*lengths: int, width: int = 1) -> PagedBatch:
    """Rows of one token, after the given numbers of tokens."""
    num_keys = torch.tensor(lengths).int() + 1
    ends = torch.cat([torch.zeros(1), num_keys.cumsum(0)]).int()
    return replace(
        idle_batch(len(lengths), width * PAGE, CPU),
        input_ids=torch.tensor([lengths]) + 100,
        positions=torch.tensor([lengths]),
        cells=torch.tensor(lengths) + PAGE,
        num_keys=num_keys,
        key_ends=ends,
        page_table=torch.full((len(lengths), width), 7).int(),
    )


def test_batch_sizes_end_with_the_maximum() -> None:
    assert row_counts(1) == [1]
    assert row_counts(8) == [1, 2, 4, 8]
    assert row_counts(40) == [1, 2, 4, 8, 16, 32, 40]


def test_a_replayed_step_computes_its_own_rows() -> None:
    subject = Subject(max_rows=8)
    batch = decoding(4, 9, 2)
    assert torch.equal(subject.graphs.run(batch), subject.compute(batch))
    assert subject.recording.num_replays == 1
    assert subject.seen[0].num_rows == 4


def test_rows_of_a_larger_previous_step_are_gone() -> None:
    subject = Subject(max_rows=4)
    subject.graphs.run(decoding(4, 9, 2, 6, width=3))
    subject.graphs.run(decoding(1, 2, 3))
    read = subject.seen[-1]
    assert read.cells.tolist() == [PAGE + 1, PAGE + 2, PAGE + 3, 0]
    assert (read.num_keys.tolist(), read.key_ends.tolist()) == ([2, 3, 4, 1], [0, 2, 5, 9, 10])
    assert read.page_table.tolist() == [[7, 0, 0]] * 3 + [[0, 0, 0]]


def test_only_drawing_rows_have_logits() -> None:
    subject = Subject(max_rows=4)
    batch = replace(decoding(4, 9, 2), logit_indices=torch.tensor([0, 2]))
    assert subject.graphs.run(batch)[:, 1].tolist() == [4, 2]


@pytest.mark.parametrize(
    "batch", [replace(decoding(1, 2), max_queries=5), decoding(*range(5))], ids=["chunk", "crowd"]
)
def test_a_step_without_a_graph_is_computed(batch: PagedBatch) -> None:
    subject = Subject(max_rows=4)
    subject.graphs.run(batch)
    assert subject.recording.num_replays == 0
    assert subject.seen == [batch]
