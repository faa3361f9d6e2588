"""A worker's report reaches Redis with its heartbeats, and its counters never decrease."""

from __future__ import annotations

from redis.asyncio import Redis

from shared.cluster.cluster_stats import read_cluster_stats
from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain import worker_report as families
from shared.domain.histogram import HistogramReading
from shared.domain.worker_report import FAMILIES, Measured, WorkerReport
from shared.store.job_store import JobStore
from tests.integration.workers.harness import Harness, Jobs, eventually


async def report_of(redis: Redis, store: JobStore, *, claims: int) -> WorkerReport:
    """Wait until the worker's report counts this many claims and their ends, and return it."""
    found: list[WorkerReport] = []

    async def is_there() -> bool:
        reports = (await read_cluster_stats(redis, store, [])).reports.values()
        found[:] = [
            report
            for report in reports
            if report.measured[families.CLAIMS.name][""] == claims
            and report.measured[families.JOBS_ENDED.name].get("completed") == claims
            and report.measured[families.SLOTS_USED.name][""] == 0
        ]
        return bool(found)

    await eventually(is_there)
    return found[0]


def has_risen(before: Measured, after: Measured) -> bool:
    if isinstance(before, HistogramReading):
        assert isinstance(after, HistogramReading)
        return before.sum <= after.sum and all(
            a <= b for a, b in zip(before.counts, after.counts, strict=True)
        )
    assert not isinstance(after, HistogramReading)
    return before <= after


async def test_counters_rise_with_the_work(
    redis_client: Redis, store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    async with Harness(store, sender) as harness:
        reports = []
        for claims in (1, 2):
            job_id = await jobs.create(length=5)
            harness.send(job_id)
            await jobs.ended(job_id)
            reports.append(await report_of(redis_client, store, claims=claims))
    first, second = reports
    for family in FAMILIES:
        if family.kind != "gauge":
            for label, before in first.measured[family.name].items():
                assert has_risen(before, second.measured[family.name][label]), family.name
    measured = second.measured
    assert measured[families.OUTPUT_TOKENS.name] == {"": 10}
    for family, count in (
        (families.BATCH, 10), (families.QUEUE_WAIT, 2), (families.FIRST_TOKEN, 2),
        (families.BETWEEN_TOKENS, 8),
    ):  # fmt: skip
        reading = measured[family.name][""]
        assert isinstance(reading, HistogramReading) and sum(reading.counts) == count, family.name
