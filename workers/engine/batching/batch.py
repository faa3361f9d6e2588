"""Batch: the tensors of one step, and how its tokens are grouped for attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, groupby

import torch

from workers.engine.batching.upload import upload
from workers.engine.cache.shelf import Place
from workers.engine.scheduling.plan import Plan, Row

#: Numbers of keys are multiples of this; the surplus is masked and adds exact zeros. MKL computes a product
#: of fewer columns in another order, so a row's last bits would depend on how long its neighbours are.
_KEY_STEP = 16
#: The rows of a product over queries are a multiple of this on a CPU, where MKL computes 1, 2 and 3 rows in
#: another order than more: a decoded token would differ from the same token read as part of a prompt.
_QUERY_STEP = 4
#: Queries times keys of one group of a chunk: the scores of more would leave the CPU's cache.
_MAX_PAIRS = 1 << 17


def query_step(device: torch.device) -> int:
    return _QUERY_STEP if device.type == "cpu" else 1


def round_up(value: int, step: int) -> int:
    return -(-value // step) * step


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one shelf and of equally many tokens, attended in one product: those that decode, or one prompt
    chunk."""

    #: Where its tokens lie in the step's.
    tokens: slice
    num_rows: int
    #: Tokens of each row.
    count: int
    #: The places whose keys are read: a range (a view of the shelf, perhaps with idle ones in it) or a list.
    slots: slice | torch.Tensor
    num_slots: int
    #: Place of each row among `slots`; None where row i is simply the i-th.
    places: torch.Tensor | None
    num_keys: int
    #: The first keys that every query sees, as long as there is no window: none where rows differ.
    num_seen: int
    #: Position of each query, [num_slots, padded count].
    positions: torch.Tensor
    _biases: dict[tuple[int | None, int], torch.Tensor] = field(default_factory=dict)

    @property
    def padded_count(self) -> int:
        return self.positions.shape[1]

    def bias(self, window: int | None, num_keys: int) -> torch.Tensor:
        """0 where a query may see a key, else -inf: float32 [num_slots, 1, 1, padded count, keys], of the
        last keys only where all see the others."""
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
    """The tokens that have their keys and values on one shelf."""

    #: The length of the shelf's slots; its name.
    shelf: int
    #: Where they lie in the step's.
    tokens: slice
    #: Its rows, first those of one token, by place; and the place of each.
    rows: tuple[Row, ...]
    places: tuple[int, ...]
    #: Place and position of each token's keys and values.
    indices: torch.Tensor
    positions: torch.Tensor
    _cells: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """How the rows are attended by products of torch."""
        return _groups(self)

    @cached_property
    def row_table(self) -> torch.Tensor:
        """Of each row the first of its tokens in the step's, their number, its place and the position of the
        first: int64 [rows, 4], as `SlotAttention` takes it."""
        ends = accumulate((row.count for row in self.rows), initial=self.tokens.start)
        table = zip(ends, self.rows, self.places, strict=False)
        return torch.tensor([(first, row.count, place, row.start) for first, row, place in table])

    def cells(self, num_heads: int, length: int) -> torch.Tensor:
        """Where each token goes in a flat [places, heads, length], head by head: [heads x tokens]."""
        if (num_heads, length) not in self._cells:
            heads = torch.arange(num_heads, device=self.indices.device)[:, None]
            cells = (self.indices * num_heads + heads) * length + self.positions
            self._cells[num_heads, length] = cells.view(-1)
        return self._cells[num_heads, length]


@dataclass(frozen=True, slots=True)
class Batch:
    """All tokens of a step in one row of length T, shelf after shelf, sequence after sequence, no padding."""

    #: [1, T]
    input_ids: torch.Tensor
    #: [1, T]
    positions: torch.Tensor
    parts: tuple[Part, ...]
    #: Which tokens' logits are wanted, in the order of the plan.
    logit_indices: torch.Tensor

    @property
    def is_decoding(self) -> bool:
        """Whether every row has one token, and what is guessed to follow."""
        return all(row.num_own == 1 for part in self.parts for row in part.rows)


def make_batch(plan: Plan, places: Mapping[int, Place], device: torch.device) -> Batch:
    """The tensors of a plan that has rows; `places` says where each slot is."""
    rows = sorted(plan.rows, key=lambda row: _order(row, places[row.slot]))
    ends = accumulate(row.count for row in rows)
    end_of = {id(row): end for row, end in zip(rows, ends, strict=True)}
    input_ids, positions, indices, logit_indices = upload(
        [
            [token_id for row in rows for token_id in row.token_ids],
            [position for row in rows for position in range(row.start, row.end)],
            [places[row.slot].index for row in rows for _ in range(row.count)],
            plan.logit_indices(end_of[id(row)] for row in plan.rows),
        ],
        torch.int64,
        device,
    )
    parts, start = [], 0
    for shelf, members in groupby(rows, key=lambda row: places[row.slot].shelf):
        own = tuple(members)
        tokens = slice(start, start + sum(row.count for row in own))
        indexes = tuple(places[row.slot].index for row in own)
        parts.append(Part(shelf, tokens, own, indexes, indices[tokens], positions[tokens]))
        start = tokens.stop
    return Batch(input_ids[None], positions[None], tuple(parts), logit_indices)


def _order(row: Row, place: Place) -> tuple[int, bool, int]:
    """By shelf; on it first the rows of one token, by place."""
    return place.shelf, row.count > 1, place.index


def _groups(part: Part) -> tuple[Group, ...]:
    rows, places, start = part.rows, part.places, part.tokens.start
    num_single = sum(row.count == 1 for row in rows)
    groups = []
    if num_single:
        groups.append(_single_group(part, num_single))
        start += num_single
    for row, place in zip(rows[num_single:], places[num_single:], strict=True):
        step = round_up(_MAX_PAIRS // row.end + 1, _QUERY_STEP)
        for first in range(0, row.count, step):
            tokens = slice(start + first, start + min(first + step, row.count))
            groups.append(_chunk_group(part, row.start + first, place, tokens))
        start += row.count
    return tuple(groups)


def _single_group(part: Part, num: int) -> Group:
    """Its `num` rows of one token, ascending by place. Idle places among them are computed too, where that is
    cheaper than to copy the keys of the others together."""
    first, end = part.places[0], part.places[num - 1] + 1
    indices, positions = part.indices[:num], part.positions[:num]
    is_view = end - first <= 2 * num
    among = None
    if is_view and end - first > num:
        among = indices - first
        positions = positions.new_zeros(end - first).index_copy_(0, among, positions)
    return Group(
        tokens=slice(part.tokens.start, part.tokens.start + num),
        num_rows=num,
        count=1,
        slots=slice(first, end) if is_view else indices,
        num_slots=end - first if is_view else num,
        places=among,
        num_keys=round_up(max(row.end for row in part.rows[:num]), _KEY_STEP),
        num_seen=0,
        positions=positions[:, None],
    )


def _chunk_group(part: Part, first: int, place: int, tokens: slice) -> Group:
    """Tokens of one row from position `first` on."""
    start = part.tokens.start
    own, count = part.positions[tokens.start - start : tokens.stop - start], tokens.stop - tokens.start
    padding = round_up(count, query_step(own.device)) - count
    return Group(
        tokens=tokens,
        num_rows=1,
        count=count,
        slots=slice(place, place + 1),
        num_slots=1,
        places=None,
        num_keys=round_up(first + count, _KEY_STEP),
        num_seen=first,
        positions=torch.cat([own, own[:1].expand(padding)])[None],
    )
