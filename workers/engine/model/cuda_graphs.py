"""CudaGraphs: steps in which every row decodes, recorded once for some numbers of rows and replayed.

Of a short step most goes into launching kernels one by one; a recorded one is launched as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from workers.engine.batching.paged_batch import PagedBatch, idle_batch

#: Logits of all rows of a batch that asks for them, [rows, vocabulary].
Compute = Callable[[PagedBatch], torch.Tensor]
#: Given what computes from tensors that stay where they are: what computes it again, into the same output.
Recorder = Callable[[Callable[[], torch.Tensor]], Callable[[], torch.Tensor]]

#: Between powers of two and multiples of this a step is padded by less than it costs to keep more graphs.
_STEP = 16


def row_counts(max_rows: int) -> list[int]:
    """For how many rows steps are recorded; fewer are padded to the next: 1, 2, 4, 8, 16, 32, 48, …"""
    counts = [1, 2, 4, 8, *range(_STEP, max_rows, _STEP)]
    return [*(count for count in counts if count < max_rows), max_rows]


@dataclass(frozen=True, slots=True)
class _Graph:
    """A recorded step: the tensors it reads, those that nobody's rows have, and what runs it."""

    batch: PagedBatch
    idle: PagedBatch
    replay: Callable[[], torch.Tensor]

    def load(self, batch: PagedBatch) -> None:
        """The rows that are left over write and read the scratch page: those of the step before are gone."""
        for own, idle, new in zip(*map(_changing, (self.batch, self.idle, batch)), strict=True):
            own.copy_(idle)
            own[tuple(map(slice, new.shape))] = new
        torch.cumsum(self.batch.num_keys, 0, dtype=torch.int32, out=self.batch.key_ends[1:])


def _changing(batch: PagedBatch) -> tuple[torch.Tensor, ...]:
    """What differs between two steps of equally many rows of one token, but for sums of them."""
    return batch.input_ids, batch.positions, batch.cells, batch.num_keys, batch.page_table


class CudaGraphs:
    """Runs what was recorded where it can, and computes anew where it cannot."""

    def __init__(self, compute: Compute, record: Recorder, *, max_keys: int, device: torch.device) -> None:
        """`compute`: for a cache whose tensors stay where they are. `max_keys`: of the longest sequence."""
        self._compute = compute
        self._record = record
        self._max_keys = max_keys
        self._device = device
        # By number of rows, ascending.
        self._graphs: dict[int, _Graph] = {}

    def record(self, max_rows: int) -> None:
        """Largest first: the others find their memory taken from its."""
        graphs = {count: self._recorded(count) for count in reversed(row_counts(max_rows))}
        self._graphs = dict(sorted(graphs.items()))

    def run(self, batch: PagedBatch) -> torch.Tensor:
        """The wanted logits, [wanted, vocabulary]; valid until the next step."""
        fitting = next((count for count in self._graphs if count >= batch.num_rows), None)
        if fitting is None or batch.max_queries > 1:
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
    """Records what is launched on a CUDA device (https://docs.pytorch.org/docs/stable/notes/cuda.html)."""

    def __init__(self) -> None:
        # Graphs never run at the same time, so they share the memory of what is between input and output.
        self._pool: Any = None

    def __call__(self, compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """Raises RuntimeError where something cannot be recorded, as a look at a result from the CPU."""
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
        """On a stream of its own: what libraries set up at their first call is not to be recorded."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            compute()
        torch.cuda.current_stream().wait_stream(stream)
