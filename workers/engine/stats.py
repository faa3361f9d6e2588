"""EngineStats: an engine's counters and its current load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.domain.histogram import HistogramReading
from workers.cache_stats import CacheStats


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since the engine started, and the numbers of waiting and running sequences now."""

    steps: int
    prompt_tokens: int
    generated_tokens: int
    #: Tokens proposed by drafters, and how many of them were accepted.
    drafted_tokens: int
    accepted_tokens: int
    waiting: int
    running: int
    #: Number of steps by batch size (sequences that drew a token). Shows whether batches were shared.
    batch_sizes: Mapping[int, int]
    #: Histograms of seconds, by phase of a step.
    phases: Mapping[str, HistogramReading]
    cache: CacheStats
    #: Requests that failed because the model's logits were NaN or infinite.
    numerical_errors: int = 0

    @property
    def mean_batch_size(self) -> float:
        steps = sum(self.batch_sizes.values())
        return sum(size * count for size, count in self.batch_sizes.items()) / steps if steps else 0.0
