"""Batch: the tensors of one step, with its tokens grouped for attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, groupby

import torch

from workers.engine.batching.rotary_lengths import rotary_lengths
from workers.engine.batching.upload import upload
from workers.engine.placement.shelf import SlotLocation
from workers.engine.scheduling.plan import Plan, Row

#: Numbers of keys are multiples of this; masked padding adds exact zeros. MKL computes a product with fewer
#: columns in another order, so a row's last bits would depend on the length of its neighbours.
_KEY_STEP = 16
#: On a CPU, products over queries have a multiple of this many rows. MKL computes 1, 2 and 3 rows in another
#: order than more rows, so a decoded token would differ from the same token in a prompt.
_QUERY_STEP = 4
#: Maximum queries times keys of a group of a chunk. The scores of more would not fit into the CPU's cache.
_MAX_PAIRS = 1 << 17


def query_step(device: torch.device) -> int:
    return _QUERY_STEP if device.type == "cpu" else 1


def round_up(value: int, step: int) -> int:
    return -(-value // step) * step


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one shelf with the same number of tokens, attended in one product: all decoding rows, or one
    prompt chunk."""

    #: Its range in the step's tokens.
    tokens: slice
    num_rows: int
    #: Tokens per row.
    count: int
    #: The slot indices whose keys are read: a range (a view of the shelf, possibly with idle slots) or a
    #: list.
    slots: slice | torch.Tensor
    num_slots: int
    #: Index of each row among `slots`. None: row i has slot i.
    row_slots: torch.Tensor | None
    num_keys: int
    #: Number of first keys that every query sees when there is no window. 0 if rows differ.
    num_seen: int
    #: Position of each query, [num_slots, padded count].
    positions: torch.Tensor
    _biases: dict[tuple[int | None, int], torch.Tensor] = field(default_factory=dict)

    @property
    def padded_count(self) -> int:
        return self.positions.shape[1]

    def bias(self, window: int | None, num_keys: int) -> torch.Tensor:
        """The attention bias: 0 where a query sees a key, else -inf. float32 [num_slots, 1, 1, padded count,
        keys].

        Leading keys that every query sees are left out.
        """
        if (window, num_keys) not in self._biases:
            first = self.num_seen if window is None else 0
            keys = torch.arange(first, num_keys, device=self.positions.device)
            queries = self.positions[:, :, None]
            hidden = keys > queries
            if window is not None:
                hidden |= keys <= queries - window
            bias = torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, float("-inf"))
            self._biases[window, num_keys] = bias[:, None, None]
        return self._biases[window, num_keys]


@dataclass(frozen=True)
class Part:
    """The tokens of a step whose keys and values are on one shelf."""

    #: The length of the shelf's slots, which identifies it.
    shelf: int
    #: Their range in the step's tokens.
    tokens: slice
    #: Its rows, those of one token first, ordered by slot index; and the slot index of each row.
    rows: tuple[Row, ...]
    slot_indices: tuple[int, ...]
    #: Slot index and position of each token's keys and values.
    token_slots: torch.Tensor
    positions: torch.Tensor
    _cells: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups in which torch's products attend the rows."""
        return _groups(self)

    @cached_property
    def row_table(self) -> torch.Tensor:
        """A table of rows for `SlotAttention`, int64 [rows, 4].

        The columns are the first token in the step, the number of tokens, the slot index and the first
        position.
        """
        ends = accumulate((row.count for row in self.rows), initial=self.tokens.start)
        table = zip(ends, self.rows, self.slot_indices, strict=False)
        return torch.tensor([(first, row.count, index, row.start) for first, row, index in table])

    def cells(self, num_heads: int, length: int) -> torch.Tensor:
        """Index of each token in a flattened [slots, heads, length], head by head: [heads x tokens]."""
        if (num_heads, length) not in self._cells:
            heads = torch.arange(num_heads, device=self.token_slots.device)[:, None]
            cells = (self.token_slots * num_heads + heads) * length + self.positions
            self._cells[num_heads, length] = cells.view(-1)
        return self._cells[num_heads, length]


@dataclass(frozen=True, slots=True)
class Batch:
    """All T tokens of a step in one row, ordered by shelf, then by sequence, without padding."""

    #: [1, T]
    input_ids: torch.Tensor
    #: [1, T]
    positions: torch.Tensor
    parts: tuple[Part, ...]
    #: Tokens whose logits are requested, in the order of the plan.
    logit_indices: torch.Tensor
    #: [1, T]: see `rotary_lengths`.
    rotary_lengths: torch.Tensor | None = None

    @property
    def is_decoding(self) -> bool:
        """Whether every row has exactly one token of its own, and possibly a draft."""
        return all(row.num_own == 1 for part in self.parts for row in part.rows)


def make_batch(plan: Plan, locations: Mapping[int, SlotLocation], device: torch.device) -> Batch:
    """Make the tensors of a plan with at least one row. `locations` maps slots to their locations."""
    rows = sorted(plan.rows, key=lambda row: _order(row, locations[row.slot]))
    ends = accumulate(row.count for row in rows)
    end_of = {id(row): end for row, end in zip(rows, ends, strict=True)}
    input_ids, positions, token_slots, logit_indices = upload(
        [
            [token_id for row in rows for token_id in row.token_ids],
            [position for row in rows for position in range(row.start, row.end)],
            [locations[row.slot].slot_index for row in rows for _ in range(row.count)],
            plan.logit_indices(end_of[id(row)] for row in plan.rows),
        ],
        torch.int64,
        device,
    )
    parts, start = [], 0
    for shelf, members in groupby(rows, key=lambda row: locations[row.slot].shelf):
        own = tuple(members)
        tokens = slice(start, start + sum(row.count for row in own))
        slot_indices = tuple(locations[row.slot].slot_index for row in own)
        parts.append(Part(shelf, tokens, own, slot_indices, token_slots[tokens], positions[tokens]))
        start = tokens.stop
    return Batch(input_ids[None], positions[None], tuple(parts), logit_indices, rotary_lengths(rows, device))


def _order(row: Row, location: SlotLocation) -> tuple[int, bool, int]:
    """The sort key of a row: shelf, then rows of one token first, then slot index."""
    return location.shelf, row.count > 1, location.slot_index


def _groups(part: Part) -> tuple[Group, ...]:
    rows, slot_indices, start = part.rows, part.slot_indices, part.tokens.start
    num_single = sum(row.count == 1 for row in rows)
    groups = []
    if num_single:
        groups.append(_single_group(part, num_single))
        start += num_single
    for row, slot_index in zip(rows[num_single:], slot_indices[num_single:], strict=True):
        step = round_up(_MAX_PAIRS // row.end + 1, _QUERY_STEP)
        for first in range(0, row.count, step):
            tokens = slice(start + first, start + min(first + step, row.count))
            groups.append(_chunk_group(part, row.start + first, slot_index, tokens))
        start += row.count
    return tuple(groups)


def _single_group(part: Part, num: int) -> Group:
    """The group of its `num` rows of one token, in ascending order of slot index.

    Idle slots between them are computed too, if that is cheaper than gathering the keys of the others.
    """
    first, end = part.slot_indices[0], part.slot_indices[num - 1] + 1
    slots, positions = part.token_slots[:num], part.positions[:num]
    is_view = end - first <= 2 * num
    row_slots = None
    if is_view and end - first > num:
        row_slots = slots - first
        positions = positions.new_zeros(end - first).index_copy_(0, row_slots, positions)
    return Group(
        tokens=slice(part.tokens.start, part.tokens.start + num),
        num_rows=num,
        count=1,
        slots=slice(first, end) if is_view else slots,
        num_slots=end - first if is_view else num,
        row_slots=row_slots,
        num_keys=round_up(max(row.end for row in part.rows[:num]), _KEY_STEP),
        num_seen=0,
        positions=positions[:, None],
    )


def _chunk_group(part: Part, first: int, slot_index: int, tokens: slice) -> Group:
    """The group of tokens of one row, beginning at position `first`."""
    start = part.tokens.start
    own, count = part.positions[tokens.start - start : tokens.stop - start], tokens.stop - tokens.start
    padding = round_up(count, query_step(own.device)) - count
    return Group(
        tokens=tokens,
        num_rows=1,
        count=count,
        slots=slice(slot_index, slot_index + 1),
        num_slots=1,
        row_slots=None,
        num_keys=round_up(first + count, _KEY_STEP),
        num_seen=first,
        positions=torch.cat([own, own[:1].expand(padding)])[None],
    )
