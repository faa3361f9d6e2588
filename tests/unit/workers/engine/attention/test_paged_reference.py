from __future__ import annotations

import pytest
import torch
from torch.nn.attention.varlen import AuxRequest

from workers.engine.attention import paged_reference as paged_kernel
from workers.engine.attention.paged_reference import torch_varlen_attn

HEADS, KV_HEADS, DIM, VALUE_DIM = 6, 2, 8, 5
#: Queries and keys of each row.
ROWS = ((1, 9), (1, 4), (5, 5), (3, 11))
PAGE = 4


class Rows:
    """Keys and values of some rows on shuffled pages. The rest of each page is noise."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.query = torch.randn(sum(count for count, _ in ROWS), HEADS, DIM)
        self.keys = torch.randn(20, PAGE, KV_HEADS, DIM)
        self.values = torch.randn(20, PAGE, KV_HEADS, VALUE_DIM)
        self.table = torch.randperm(20)[:12].view(4, 3).int()
        counts = torch.tensor([count for count, _ in ROWS])
        self.ends = torch.cat([torch.zeros(1), counts.cumsum(0)]).int()
        self.num_keys = torch.tensor([num for _, num in ROWS]).int()

    def attend(
        self, window: tuple[int, int] = (-1, 0), softcap: float | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return torch_varlen_attn(
            self.query, self.keys, self.values, self.ends, self.ends, 5, 11,
            return_aux=AuxRequest(lse=True), scale=0.3, window_size=window, enable_gqa=True,
            seqused_k=self.num_keys, block_table=self.table, num_splits=1, softcap=softcap,
        )  # fmt: skip

    def plainly(
        self, window: tuple[int, int] = (-1, 0), softcap: float | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Textbook attention, query by query."""
        attended, sums = [], []
        for row, (count, num_keys) in enumerate(ROWS):
            keys, values = (x[self.table[row]].flatten(0, 1) for x in (self.keys, self.values))
            for i in range(count):
                position = num_keys - count + i
                first = 0 if window[0] < 0 else max(0, position - window[0])
                last = num_keys if window[1] < 0 else min(num_keys, position + window[1] + 1)
                own, mixed = (x[first:last].repeat_interleave(HEADS // KV_HEADS, 1) for x in (keys, values))
                scores = torch.einsum("hd,khd->hk", self.query[int(self.ends[row]) + i], own) * 0.3
                if softcap is not None:
                    scores = softcap * torch.tanh(scores / softcap)
                attended.append(torch.einsum("hk,khd->hd", scores.softmax(-1), mixed))
                sums.append(scores.exp().sum(-1).log())
        return torch.stack(attended), torch.stack(sums, 1)


@pytest.mark.parametrize("softcap", [None, 0.7])
@pytest.mark.parametrize("window", [(-1, 0), (-1, -1), (0, 0), (2, 0), (100, 0)])
def test_each_query_mixes_the_keys_that_its_window_shows(
    window: tuple[int, int], softcap: float | None
) -> None:
    rows = Rows()
    torch.testing.assert_close(rows.attend(window, softcap), rows.plainly(window, softcap))


def test_page_contents_beyond_a_row_change_nothing() -> None:
    rows = Rows()
    before = rows.attend()
    for row, (_, num_keys) in enumerate(ROWS):
        for position in range(num_keys, 3 * PAGE):
            rows.keys[rows.table[row, position // PAGE], position % PAGE] = 1e4
    assert all(map(torch.equal, before, rows.attend()))


def test_many_rows_are_attended_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows()
    whole = rows.attend()
    monkeypatch.setattr(paged_kernel, "_MAX_PAIRS", 60)
    torch.testing.assert_close(rows.attend(), whole)


def test_half_precision_is_kept() -> None:
    rows = Rows()
    exact, _ = rows.attend()
    rows.query, rows.keys, rows.values = (x.bfloat16() for x in (rows.query, rows.keys, rows.values))
    attended, sums = rows.attend()
    assert (attended.dtype, sums.dtype, sums.shape) == (torch.bfloat16, torch.float32, (HEADS, 10))
    torch.testing.assert_close(attended.float(), exact, rtol=0.05, atol=0.05)
