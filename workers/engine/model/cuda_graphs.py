"""CudaGraphs: captures decode steps for some batch sizes and replays them.

A short step spends most of its time launching kernels one by one. A captured graph is launched as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from workers.engine.batching.paged_batch import PagedBatch, idle_batch

#: Computes the requested logits of a batch, [rows, vocabulary].
Compute = Callable[[PagedBatch], torch.Tensor]
#: Captures a computation over fixed tensors. Returns a function that repeats it into the same output.
Recorder = Callable[[Callable[[], torch.Tensor]], Callable[[], torch.Tensor]]

#: Batch sizes above 16 are multiples of this. The padding costs less than keeping more graphs would.
_STEP = 16


def row_counts(max_rows: int) -> list[int]:
    """The batch sizes to capture: 1, 2, 4, 8, 16, 32, 48, … A smaller batch is padded to the next size."""
    counts = [1, 2, 4, 8, *range(_STEP, max_rows, _STEP)]
    return [*(count for count in counts if count < max_rows), max_rows]


@dataclass(frozen=True, slots=True)
class _Graph:
    """A captured step: its input tensors, idle rows for padding, and the replay function."""

    batch: PagedBatch
    idle: PagedBatch
    replay: Callable[[], torch.Tensor]

    def load(self, batch: PagedBatch) -> None:
        """Copy a batch into the input tensors.

        Surplus rows read and write the scratch page, so no row of the previous step is left.
        """
        for own, idle, new in zip(*map(_changing, (self.batch, self.idle, batch)), strict=True):
            own.copy_(idle)
            own[tuple(map(slice, new.shape))] = new
        torch.cumsum(self.batch.num_keys, 0, dtype=torch.int32, out=self.batch.key_ends[1:])


def _changing(batch: PagedBatch) -> tuple[torch.Tensor, ...]:
    """The tensors that differ between two decode steps with the same number of rows, except for cumulative
    sums."""
    return batch.input_ids, batch.positions, batch.cells, batch.num_keys, batch.page_table


class CudaGraphs:
    """Replays captured steps where possible and computes all others normally."""

    def __init__(self, compute: Compute, record: Recorder, *, max_keys: int, device: torch.device) -> None:
        """`compute`: uses a cache whose tensors do not move. `max_keys`: keys of the longest sequence."""
        self._compute = compute
        self._record = record
        self._max_keys = max_keys
        self._device = device
        # By batch size, ascending.
        self._graphs: dict[int, _Graph] = {}

    def record(self, max_rows: int) -> None:
        """Capture all batch sizes. The largest comes first, so that the others reuse its memory."""
        graphs = {count: self._recorded(count) for count in reversed(row_counts(max_rows))}
        self._graphs = dict(sorted(graphs.items()))

    def run(self, batch: PagedBatch) -> torch.Tensor:
        """Return the requested logits, [requested, vocabulary]. They are valid until the next step."""
        fitting = next((count for count in self._graphs if count >= batch.num_rows), None)
        if fitting is None or batch.max_queries > 1 or batch.rotary_lengths is not None:
            return self._compute(batch)
        graph = self._graphs[fitting]
        graph.load(batch)
        logits = graph.replay()
        if len(batch.logit_indices) == batch.num_rows:
            return logits[: batch.num_rows]
        return logits[batch.logit_indices]

    def _recorded(self, num_rows: int) -> _Graph:
        batch, idle = (idle_batch(num_rows, self._max_keys, self._device) for _ in range(2))
        return _Graph(batch, idle, self._record(lambda: self._compute(batch)))


class CudaRecorder:
    """Captures the kernels launched on a CUDA device (https://docs.pytorch.org/docs/stable/notes/cuda.html)."""

    def __init__(self) -> None:
        # Graphs never run at the same time, so they share memory for their intermediate results.
        self._pool: Any = None

    def __call__(self, compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """Raises: RuntimeError if something cannot be captured, such as a synchronization with the CPU."""
        self._warm_up(compute)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = compute()
        self._pool = graph.pool()

        def replay() -> torch.Tensor:
            graph.replay()
            return output

        return replay

    def _warm_up(self, compute: Callable[[], torch.Tensor]) -> None:
        """Run once on a side stream, so that the one-time setup of libraries is not captured."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            compute()
        torch.cuda.current_stream().wait_stream(stream)
