"""PagedBatch: the tensors of one step for a paged cache."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from itertools import accumulate, chain

import torch

from workers.engine.batching.rotary_lengths import rotary_lengths
from workers.engine.batching.upload import upload
from workers.engine.placement.page_pool import PAGE, SCRATCH, PagePool
from workers.engine.scheduling.plan import Plan, Row


@dataclass(frozen=True, slots=True)
class PagedBatch:
    """All T tokens of a step in one row: the plan's N rows one after another, without padding.

    Indices are int64. Tensors that the kernel reads are int32.
    """

    #: [1, T]
    input_ids: torch.Tensor
    #: [1, T]
    positions: torch.Tensor
    #: [T]: the cell of each token's keys and values, see `PagePool.cells`.
    cells: torch.Tensor
    #: Tokens whose logits are requested, in the order of the plan.
    logit_indices: torch.Tensor
    #: [N + 1]: cumulative token counts of the rows, beginning with 0.
    query_ends: torch.Tensor
    #: [N + 1]: cumulative key counts of the rows, beginning with 0.
    key_ends: torch.Tensor
    #: [N]: the number of keys of each row, including those of this step.
    num_keys: torch.Tensor
    #: [N, pages of the longest row]
    page_table: torch.Tensor
    #: Maximum per row.
    max_queries: int
    max_keys: int
    #: [1, T]: see `rotary_lengths`.
    rotary_lengths: torch.Tensor | None = None
    _copies: dict[torch.device, PagedBatch] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        return len(self.num_keys)

    def on(self, device: torch.device) -> PagedBatch:
        """The batch on another device, for layers there. Copied once."""
        if device == self.num_keys.device:
            return self
        if device not in self._copies:
            tensors = [f.name for f in fields(self) if isinstance(getattr(self, f.name), torch.Tensor)]
            moved = {name: getattr(self, name).to(device, non_blocking=True) for name in tensors}
            self._copies[device] = replace(self, **moved, _copies={})
        return self._copies[device]


def make_paged_batch(plan: Plan, pool: PagePool, device: torch.device) -> PagedBatch:
    """Make the tensors of a plan with at least one row, with two copies that are asynchronous on CUDA."""
    rows = plan.rows
    query_ends = list(accumulate((row.count for row in rows), initial=0))
    max_keys = max(row.end for row in rows)
    width = -(-max_keys // PAGE)
    input_ids, positions, cells, logit_indices = upload(
        [
            list(chain.from_iterable(row.token_ids for row in rows)),
            [position for row in rows for position in range(row.start, row.end)],
            list(chain.from_iterable(pool.cells(row.slot, row.start, row.end) for row in rows)),
            plan.logit_indices(query_ends[1:]),
        ],
        torch.int64,
        device,
    )
    ends, key_ends, num_keys, page_table = upload(
        [
            query_ends,
            list(accumulate((row.end for row in rows), initial=0)),
            [row.end for row in rows],
            list(chain.from_iterable(_table_row(row, pool, width) for row in rows)),
        ],
        torch.int32,
        device,
    )
    return PagedBatch(
        input_ids=input_ids[None],
        positions=positions[None],
        cells=cells,
        logit_indices=logit_indices,
        query_ends=ends,
        key_ends=key_ends,
        num_keys=num_keys,
        page_table=page_table.view(len(rows), width),
        max_queries=max(row.count for row in rows),
        max_keys=max_keys,
        rotary_lengths=rotary_lengths(rows, device),
    )


def idle_batch(num_rows: int, max_keys: int, device: torch.device) -> PagedBatch:
    """Rows of one token without a sequence. They read and write only the scratch page."""
    zeros = torch.zeros(num_rows, dtype=torch.int64, device=device)
    ends = torch.arange(num_rows + 1, dtype=torch.int32, device=device)
    width = -(-max_keys // PAGE)
    return PagedBatch(
        input_ids=zeros[None].clone(),
        positions=zeros[None].clone(),
        cells=zeros.clone(),
        logit_indices=torch.arange(num_rows, device=device),
        query_ends=ends,
        key_ends=ends.clone(),
        num_keys=torch.ones(num_rows, dtype=torch.int32, device=device),
        page_table=torch.full((num_rows, width), SCRATCH, dtype=torch.int32, device=device),
        max_queries=1,
        max_keys=max_keys,
    )


def _table_row(row: Row, pool: PagePool, width: int) -> list[int]:
    """The row's pages, padded. A slot may have pages beyond the row's end."""
    pages = pool.pages(row.slot)[:width]
    return pages + [SCRATCH] * (width - len(pages))
