"""BucketedTopK: answers questions about one row's tokens in order of probability, without sorting all of
them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NUM_BUCKETS = 1024
#: Tokens whose logits are further below the best one, in units of the temperature, have weight 0.
_MAX_DEPTH = 40.0


class BucketedTopK:
    """Cumulative weights of the tokens in descending order of logits. Ties are ordered by id.

    Weights are integers, so sums are exact. Tokens are put into buckets by logit, and only the bucket that
    contains the answer is sorted.
    """

    def __init__(self, logits: NDArray[np.float32], weights: NDArray[np.float64], temperature: float) -> None:
        """`logits` and `weights`: [V]. The largest logit must be finite."""
        self._logits = logits
        self._weights = weights
        with np.errstate(over="ignore"):
            depth = np.minimum(logits.max() - logits, np.float32(min(_MAX_DEPTH * temperature, 1e38)))
        scale = np.float32(_NUM_BUCKETS - 1) / max(depth.max(), np.float32(1e-30))
        self._bucket = (depth * scale).astype(np.int32)
        self._ends = np.cumsum(np.bincount(self._bucket))
        self._sums = np.cumsum(np.bincount(self._bucket, weights=weights))

    def weight_of_best(self, num: int) -> float:
        """The total weight of the `num` most likely tokens."""
        bucket = int(np.searchsorted(self._ends, num))
        begin = self._ends[bucket - 1] if bucket else 0
        return float(self._sorted_bucket(bucket)[1][num - begin - 1])

    def weight_reaching(self, weight: float) -> float:
        """The total weight of the fewest most likely tokens that weigh at least `weight`."""
        _, sums = self._sorted_bucket(int(np.searchsorted(self._sums, weight)))
        return float(sums[np.searchsorted(sums, weight)])

    def token_beyond(self, weight: float) -> int:
        """The first token, in descending order, at which the cumulative weight exceeds `weight`."""
        ids, sums = self._sorted_bucket(int(np.searchsorted(self._sums, weight, side="right")))
        return int(ids[np.searchsorted(sums, weight, side="right")])

    def _sorted_bucket(self, bucket: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The bucket's tokens in order, and the cumulative weight at each of them."""
        ids = np.flatnonzero(self._bucket == bucket)
        ids = ids[np.argsort(-self._logits[ids], kind="stable")]
        before = self._sums[bucket - 1] if bucket else 0.0
        return ids, before + np.cumsum(self._weights[ids])
