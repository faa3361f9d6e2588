"""workers.engine.sampling.bucketed_top_k."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from workers.engine.sampling.bucketed_top_k import BucketedTopK

_LOGIT = st.floats(-50, 50, width=32) | st.sampled_from([0.0, -0.0, 1.0, -np.inf, -3e38])


def weights_of(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        depth = (logits.max() - logits).astype(np.float64)
    weights: NDArray[np.float64] = np.floor(np.exp(-depth / temperature) * 2.0**36)
    return weights


def check(logits: NDArray[np.float32], temperature: float, shares: list[float]) -> None:
    """Compares with a full sort at each position, a share of the tokens or of the weight."""
    weights = weights_of(logits, temperature)
    order = np.lexsort((np.arange(len(logits)), -logits))
    sums = np.cumsum(weights[order])
    row = BucketedTopK(logits, weights, temperature)
    for share in shares:
        num = 1 + int(share * (len(logits) - 1))
        assert row.weight_of_best(num) == sums[num - 1]
        for weight in (np.floor(share * (sums[-1] - 1)), sums[num - 1] - 1):
            assert row.weight_reaching(weight) == sums[np.searchsorted(sums, weight)]
            assert row.token_beyond(weight) == order[np.searchsorted(sums, weight, side="right")]
    assert row.weight_reaching(sums[-1]) == sums[-1]


@settings(deadline=None)
@given(
    st.lists(_LOGIT, min_size=1, max_size=60).filter(lambda row: max(row) > -1e38),
    st.sampled_from([1e-6, 0.3, 1.0, 7.0, 1e9, 1e300]),
    st.lists(st.floats(0, 1), min_size=1, max_size=5),
)
def test_results_match_a_sort(row: list[float], temperature: float, shares: list[float]) -> None:
    check(np.array(row, np.float32), temperature, shares)


@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0, 10.0])
def test_results_match_a_sort_of_many_tokens(spread: float) -> None:
    coarse = (np.random.default_rng(0).standard_normal(30_000) * spread * 16).round() / 16
    check(coarse.astype(np.float32), 1.0, np.linspace(0, 1, 50).tolist())
