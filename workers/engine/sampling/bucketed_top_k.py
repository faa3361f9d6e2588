"""BucketedTopK: the tokens of one row in the order of likelihood, without sorting them all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NUM_BUCKETS = 1024
#: Logits that lie further below the best, in units of the temperature, weigh nothing.
_MAX_DEPTH = 40.0


class BucketedTopK:
    """From the largest logit down, equal ones by id, weights are added up. Whole numbers: sums are exact.

    Tokens are put into buckets by their logits; only the bucket that an answer lies in is put in order.
    """

    def __init__(self, logits: NDArray[np.float32], weights: NDArray[np.float64], temperature: float) -> None:
        """[V] each; the best logit is finite."""
        self._logits = logits
        self._weights = weights
        with np.errstate(over="ignore"):
            depth = np.minimum(logits.max() - logits, np.float32(min(_MAX_DEPTH * temperature, 1e38)))
        scale = np.float32(_NUM_BUCKETS - 1) / max(depth.max(), np.float32(1e-30))
        self._bucket = (depth * scale).astype(np.int32)
        self._ends = np.cumsum(np.bincount(self._bucket))
        self._sums = np.cumsum(np.bincount(self._bucket, weights=weights))

    def weight_of_best(self, num: int) -> float:
        """What the best `num` tokens weigh together."""
        bucket = int(np.searchsorted(self._ends, num))
        begin = self._ends[bucket - 1] if bucket else 0
        return float(self._added_up(bucket)[1][num - begin - 1])

    def reach(self, weight: float) -> float:
        """What the fewest best tokens weigh that together weigh at least this."""
        _, sums = self._added_up(int(np.searchsorted(self._sums, weight)))
        return float(sums[np.searchsorted(sums, weight)])

    def token_beyond(self, weight: float) -> int:
        """The token with which the best ones come to weigh more than this."""
        ids, sums = self._added_up(int(np.searchsorted(self._sums, weight, side="right")))
        return int(ids[np.searchsorted(sums, weight, side="right")])

    def _added_up(self, bucket: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The bucket's tokens in order, and what each and all that are better than it weigh."""
        ids = np.flatnonzero(self._bucket == bucket)
        ids = ids[np.argsort(-self._logits[ids], kind="stable")]
        before = self._sums[bucket - 1] if bucket else 0.0
        return ids, before + np.cumsum(self._weights[ids])
