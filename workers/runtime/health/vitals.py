"""Vitals: the statistics that a worker reports with each heartbeat and to Celery."""

from __future__ import annotations

import time
from typing import Any

from shared.cluster.reaper import Reaper
from shared.domain.worker_report import WorkerReport
from workers.backends.backend import Backend
from workers.runtime.claimer import Claimer
from workers.runtime.health.rate_meter import RateMeter
from workers.runtime.health.telemetry import Telemetry
from workers.runtime.running_job import RunningJobs


class Vitals:
    """Reads the counters of the worker's parts."""

    def __init__(
        self, jobs: RunningJobs, claimer: Claimer, backend: Backend, telemetry: Telemetry, reaper: Reaper
    ) -> None:
        self._jobs = jobs
        self._claimer = claimer
        self._backend = backend
        self._telemetry = telemetry
        self._reaper = reaper
        self._meter = RateMeter()

    @property
    def num_steps(self) -> int:
        return self._backend.stats.steps

    @property
    def num_wake_ups(self) -> int:
        """Celery messages that the worker received and has not acknowledged."""
        return len(self._claimer.wake_ups) + self._jobs.num_wake_ups

    def measure(self) -> None:
        """Note the backend's token count. The token rate is computed from these readings."""
        self._meter.note(time.monotonic(), self._backend.stats.tokens)

    def stats(self) -> dict[str, Any]:
        """Return counters and gauges. May be called from any thread."""
        stats = self._backend.stats
        return {
            "slots": self._jobs.slots,
            "running": len(self._jobs),
            "sequences": stats.running,
            "claims_total": self._claimer.num_claims,
            "steps_total": stats.steps,
            "tokens_total": stats.tokens,
            "tokens_per_second": round(self._meter.rate, 1),
            "batch_mean": round(stats.batch_mean, 2),
            "batch_max": stats.batch_max,
        }

    def report(self) -> WorkerReport:
        return self._telemetry.report(
            self._backend.stats, claims=self._claimer.num_claims, reaper_acts=self._reaper.acts
        )
