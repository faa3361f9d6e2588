"""workers.engine.sampling.ranking."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workers.engine.sampling.ranking import best_ids


def ranked(row: list[float]) -> list[int]:
    values = np.array(row, np.float32)
    return np.lexsort((np.arange(len(row)), -values)).tolist()  # type: ignore[no-any-return]


#: Few values, so that ties are common.
_ROW = st.lists(st.sampled_from([0.0, -0.0, 1.5, -1.5, -2.0, 3.25, float("inf"), float("-inf")]), min_size=12)


@given(st.lists(_ROW.map(lambda row: row[:12]), min_size=1, max_size=4), st.integers(1, 14))
def test_the_most_likely_tokens_come_first_with_ties_by_id(rows: list[list[float]], num: int) -> None:
    assert best_ids(torch.tensor(rows), num).tolist() == [ranked(row)[:num] for row in rows]


@pytest.mark.parametrize("num", [1, 20, 256, 4096])
def test_the_first_of_many_equal_tokens_are_chosen(num: int) -> None:
    logits = (torch.randn(3, 20_000, generator=torch.Generator().manual_seed(0)) * 2).round()
    logits[1] = 0.0
    assert best_ids(logits, num).tolist() == [ranked(row)[:num] for row in logits.tolist()]
