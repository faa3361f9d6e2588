"""Stopwatch: measures the phases of an engine step."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal

from shared.domain.histogram import SHORT_S, Histogram, HistogramReading

Phase = Literal["schedule", "run", "sample", "postprocess"]


class Stopwatch:
    """Call `start` at the beginning of a step and `lap` at the end of each phase.

    Only one thread may write; any thread may read.
    """

    def __init__(self) -> None:
        self._phases: dict[Phase, Histogram] = {
            "schedule": Histogram(SHORT_S),
            "run": Histogram(SHORT_S),
            "sample": Histogram(SHORT_S),
            "postprocess": Histogram(SHORT_S),
        }
        self._then = 0.0

    def start(self) -> None:
        self._then = time.perf_counter()

    def lap(self, phase: Phase) -> None:
        """Count the time since the last lap towards this phase."""
        now = time.perf_counter()
        self._phases[phase].observe(now - self._then)
        self._then = now

    @property
    def readings(self) -> Mapping[str, HistogramReading]:
        """Histograms of seconds, by phase."""
        return {phase: histogram.read() for phase, histogram in self._phases.items()}
