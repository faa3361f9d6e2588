"""A worker's report holds every family of the table, and what was measured."""

from __future__ import annotations

from dataclasses import replace

from shared.domain import worker_report as families
from shared.domain.histogram import HistogramReading
from shared.domain.worker_report import FAMILIES, WorkerReport
from tests.unit.workers.runtime.test_running_job import a_job
from workers.backends.backend import BackendStats
from workers.runtime.health.telemetry import Telemetry

STATS = BackendStats(
    steps=3,
    tokens=9,
    drafted_tokens=6,
    accepted_tokens=4,
    prompt_tokens=7,
    running=2,
    batch_sizes={1: 1, 2: 2},
)


def report_of(telemetry: Telemetry) -> WorkerReport:
    report = telemetry.report(STATS, claims=4, reaper_acts={"resent": 1})
    assert WorkerReport.decode(report.encode()) == report
    return report


def reading(report: WorkerReport, family: families.Family) -> HistogramReading:
    value = report.measured[family.name][""]
    assert isinstance(value, HistogramReading)
    return value


def test_every_family_is_reported() -> None:
    report = report_of(Telemetry())
    assert set(report.measured) == {family.name for family in FAMILIES}
    assert report.measured[families.PROMPT_TOKENS.name] == {"": 7}
    assert report.measured[families.DRAFTED_TOKENS.name] == {"": 6}
    assert report.measured[families.ACCEPTED_TOKENS.name] == {"": 4}
    assert report.measured[families.REAPER_ACTS.name] == {"resent": 1}
    assert reading(report, families.BATCH).sum == 5
    memory = report.measured[families.MEMORY.name][""]
    assert isinstance(memory, int) and memory > 1 << 20


def test_a_wait_and_a_first_token_are_measured_once_a_job() -> None:
    telemetry = Telemetry()
    job = replace(a_job(), created_at=10.0, started_at=10.5)
    for attempt in (1, 2):
        claimed = replace(job, attempts=attempt)
        telemetry.claimed(claimed)
        telemetry.made_final(claimed, 0.25, None)
        telemetry.made_final(claimed, 0.5, 0.01)
    report = report_of(telemetry)
    wait, first, between = (
        reading(report, family)
        for family in (families.QUEUE_WAIT, families.FIRST_TOKEN, families.BETWEEN_TOKENS)
    )
    assert (sum(wait.counts), wait.sum) == (1, 0.5)
    assert (sum(first.counts), first.sum) == (1, 0.25)
    assert (sum(between.counts), between.sum) == (2, 0.02)


def test_jobs_that_left_are_counted_by_outcome() -> None:
    telemetry = Telemetry()
    for outcome in ("completed", "failed", "completed"):
        telemetry.ended(outcome)
    assert report_of(telemetry).measured[families.JOBS_ENDED.name] == {"completed": 2, "failed": 1}
