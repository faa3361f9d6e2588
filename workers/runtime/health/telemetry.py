"""Telemetry: what a worker has measured since its process started."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

from shared.domain import worker_report as families
from shared.domain.histogram import COUNTS, Histogram, HistogramReading
from shared.domain.job import Job
from shared.domain.worker_report import Family, Measured, WorkerReport
from shared.host.memory import resident_bytes
from workers.backends.backend import BackendStats


class Telemetry:
    """Counters and histograms. All methods are called in the event loop's thread."""

    def __init__(self) -> None:
        self._started_at = time.time()
        self._queue_wait = _histogram(families.QUEUE_WAIT)
        self._first_token = _histogram(families.FIRST_TOKEN)
        self._between_tokens = _histogram(families.BETWEEN_TOKENS)
        self._ended = Counter[str]()
        #: Duration of the publisher's calls, in seconds.
        self.publish = _histogram(families.PUBLISH)

    def claimed(self, job: Job) -> None:
        """Count a claimed job."""
        if job.attempts == 1 and job.started_at is not None:
            self._queue_wait.observe(max(0.0, job.started_at - job.created_at))

    def made_final(self, job: Job, since_claim_s: float, since_last_s: float | None) -> None:
        """Count a step that produced output of the job. `since_last_s` is None for the first such step."""
        if since_last_s is not None:
            self._between_tokens.observe(since_last_s)
        elif job.attempts == 1:
            self._first_token.observe(since_claim_s)

    def ended(self, outcome: str) -> None:
        """Count a job that left the worker. `outcome` is a metric's label, so it has only a few values."""
        self._ended[outcome] += 1

    def report(self, backend: BackendStats, *, claims: int, reaper_acts: Mapping[str, int]) -> WorkerReport:
        """Return all measurements, including those of the backend, the claimer and the reaper."""
        single: dict[Family, Measured] = {
            families.STEPS: backend.steps,
            families.BATCH: HistogramReading.of(COUNTS, backend.batch_sizes),
            families.PROMPT_TOKENS: backend.prompt_tokens,
            families.OUTPUT_TOKENS: backend.tokens,
            families.DRAFTED_TOKENS: backend.drafted_tokens,
            families.ACCEPTED_TOKENS: backend.accepted_tokens,
            families.QUEUE_WAIT: self._queue_wait.read(),
            families.FIRST_TOKEN: self._first_token.read(),
            families.BETWEEN_TOKENS: self._between_tokens.read(),
            families.PUBLISH: self.publish.read(),
            families.CLAIMS: claims,
            families.SLOTS_USED: backend.running,
            families.PREEMPTIONS: backend.cache.preempted,
            families.PREFIX_TOKENS: backend.cache.saved_tokens,
            families.NUMERICAL_ERRORS: backend.numerical_errors,
            families.CPU: time.process_time(),
            families.MEMORY: resident_bytes(),
            families.START_TIME: self._started_at,
        }
        labelled: dict[Family, Mapping[str, Measured]] = {
            families.PHASES: backend.phases,
            families.JOBS_ENDED: self._ended,
            families.REAPER_ACTS: reaper_acts,
            families.PREFIX_LOOKUPS: {
                "hit": backend.cache.prefix_hits,
                "miss": backend.cache.prefix_misses,
            },
            families.KV_TOKENS: {
                "allocated": backend.cache.kv_tokens,
                "budget": backend.cache.max_kv_tokens or 0,
                "prefixes": backend.cache.prefix_tokens,
            },
        }
        return WorkerReport(
            {family.name: {"": value} for family, value in single.items()}
            | {family.name: dict(by_label) for family, by_label in labelled.items()}
        )


def _histogram(family: Family) -> Histogram:
    return Histogram(family.buckets)
