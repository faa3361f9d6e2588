"""Batch: the tensors of one step, and how its tokens are grouped for attention."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate, chain

import torch

from workers.engine.scheduler import Plan, Row

#: Numbers of keys are multiples of this; the surplus is masked and adds exact zeros. MKL computes a product
#: of fewer columns in another order, so a row's last bits would depend on how long its neighbours are.
_KEY_STEP = 16
#: The rows of a product over queries are a multiple of this on a CPU, where MKL computes 1, 2 and 3 rows in
#: another order than more: a decoded token would differ from the same token read as part of a prompt.
_QUERY_STEP = 4


def query_step(device: torch.device) -> int:
    return _QUERY_STEP if device.type == "cpu" else 1


def round_up(value: int, step: int) -> int:
    return -(-value // step) * step


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of equally many tokens, attended in one product: all decoding rows, or one prompt chunk."""

    #: Where its tokens lie in the step's.
    tokens: slice
    num_rows: int
    #: Tokens of each row.
    count: int
    #: The slots whose keys are read: a range (a view of the cache, perhaps with idle slots in it) or a list.
    slots: slice | torch.Tensor
    num_slots: int
    #: Place of each row among `slots`; None where row i is simply the i-th.
    places: torch.Tensor | None
    num_keys: int
    #: Position of each query, [num_slots, padded count].
    positions: torch.Tensor
    _biases: dict[tuple[int | None, int], torch.Tensor] = field(default_factory=dict)

    @property
    def padded_count(self) -> int:
        return self.positions.shape[1]

    def bias(self, window: int | None, num_keys: int) -> torch.Tensor:
        """0 where a query may see a key, else -inf: float32 [num_slots, 1, 1, padded count, num_keys]."""
        if (window, num_keys) not in self._biases:
            keys = torch.arange(num_keys, device=self.positions.device)
            queries = self.positions[:, :, None]
            hidden = keys > queries
            if window is not None:
                hidden |= keys <= queries - window
            bias = torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, float("-inf"))
            self._biases[window, num_keys] = bias[:, None, None]
        return self._biases[window, num_keys]


@dataclass(frozen=True, slots=True)
class Batch:
    """All tokens of a step in one row of length T, sequence after sequence, without padding."""

    #: [1, T]
    input_ids: torch.Tensor
    #: [1, T]
    positions: torch.Tensor
    #: [T]: the slot that each token's keys and values go to.
    slots: torch.Tensor
    groups: tuple[Group, ...]
    #: Which tokens' logits are wanted, in the order of the plan's drawing rows.
    logit_indices: torch.Tensor
    #: What the cache must hold for this step.
    num_slots: int
    length: int
    _cells: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)

    def cells(self, num_heads: int, length: int) -> torch.Tensor:
        """Where each token goes in a flat [slots, heads, length], head by head: [heads x T]."""
        if (num_heads, length) not in self._cells:
            heads = torch.arange(num_heads, device=self.slots.device)[:, None]
            cells = (self.slots * num_heads + heads) * length + self.positions
            self._cells[num_heads, length] = cells.view(-1)
        return self._cells[num_heads, length]


def make_batch(plan: Plan, device: torch.device) -> Batch:
    """The tensors of a plan that has rows."""
    rows = plan.rows
    ends = list(accumulate(row.count for row in rows))
    input_ids, positions, slots, logit_indices = _to_device(
        [
            [token_id for row in rows for token_id in row.token_ids],
            [position for row in rows for position in range(row.start, row.end)],
            [row.slot for row in rows for _ in range(row.count)],
            [end - 1 for end, row in zip(ends, rows, strict=True) if row.draws],
        ],
        device,
    )
    num_single = sum(row.count == 1 for row in rows)
    groups = [_single_group(rows[:num_single], slots, positions)] if num_single else []
    for row, end in zip(rows[num_single:], ends[num_single:], strict=True):
        groups.append(_chunk_group(row, slice(end - row.count, end), positions))
    return Batch(
        input_ids[None],
        positions[None],
        slots,
        tuple(groups),
        logit_indices,
        num_slots=max(row.slot for row in rows) + 1,
        length=max(row.end for row in rows),
    )


def _to_device(fields: list[list[int]], device: torch.device) -> tuple[torch.Tensor, ...]:
    """Each list as a tensor, by one copy that on CUDA nobody waits for."""
    joined = torch.tensor(list(chain.from_iterable(fields)), pin_memory=device.type == "cuda")
    return torch.split(joined.to(device, non_blocking=True), [len(part) for part in fields])


def _single_group(rows: tuple[Row, ...], slots: torch.Tensor, positions: torch.Tensor) -> Group:
    """Rows of one token, ascending by slot. Idle slots among them are computed too, where that is cheaper
    than to copy the keys of the others together."""
    num, first, end = len(rows), rows[0].slot, rows[-1].slot + 1
    slots, positions = slots[:num], positions[:num]
    is_view = end - first <= 2 * num
    places = None
    if is_view and end - first > num:
        places = slots - first
        positions = positions.new_zeros(end - first).index_copy_(0, places, positions)
    return Group(
        tokens=slice(0, num),
        num_rows=num,
        count=1,
        slots=slice(first, end) if is_view else slots,
        num_slots=end - first if is_view else num,
        places=places,
        num_keys=round_up(max(row.end for row in rows), _KEY_STEP),
        positions=positions[:, None],
    )


def _chunk_group(row: Row, tokens: slice, positions: torch.Tensor) -> Group:
    own = positions[tokens]
    padding = round_up(row.count, query_step(own.device)) - row.count
    return Group(
        tokens=tokens,
        num_rows=1,
        count=row.count,
        slots=slice(row.slot, row.slot + 1),
        num_slots=1,
        places=None,
        num_keys=round_up(row.end, _KEY_STEP),
        positions=torch.cat([own, own[:1].expand(padding)])[None],
    )
