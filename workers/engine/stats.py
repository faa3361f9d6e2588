"""EngineStats: what an engine has done, and does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.domain.histogram import HistogramReading
from workers.engine.cache_stats import CacheStats


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since the start, and how many sequences wait and run now."""

    steps: int
    prompt_tokens: int
    generated_tokens: int
    #: Tokens that were guessed, and those of them that were then drawn.
    drafted_tokens: int
    accepted_tokens: int
    waiting: int
    running: int
    #: How many steps drew a token for how many sequences: shows whether the batch was shared.
    batch_sizes: Mapping[int, int]
    #: Seconds by part of a step.
    phases: Mapping[str, HistogramReading]
    cache: CacheStats

    @property
    def mean_batch_size(self) -> float:
        steps = sum(self.batch_sizes.values())
        return sum(size * count for size, count in self.batch_sizes.items()) / steps if steps else 0.0
