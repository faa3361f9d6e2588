"""Collectors: what Redis and the workers report, as Prometheus metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from shared.cluster.cluster_stats import ClusterStats
from shared.domain.histogram import HistogramReading
from shared.domain.lease import WorkerState
from shared.domain.worker_report import FAMILIES, Family, Measured, WorkerReport

_WORKER_LABELS = ("worker", "model", "device")
Sampled = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


def replica_collectors(
    num_subscriptions: int, reaper_acts: Mapping[str, int], *, is_redis_up: bool
) -> list[Metric]:
    """Metrics of this replica's subscriptions and reaper."""
    acts = CounterMetricFamily("baton_reaper_acts", "Actions of this replica's reaper.", labels=["act"])
    for act, count in sorted(reaper_acts.items()):
        acts.add_metric([act], count)
    return [
        GaugeMetricFamily(
            "baton_subscriptions",
            "Streams and waiting requests that this replica serves.",
            value=num_subscriptions,
        ),
        GaugeMetricFamily("baton_redis_up", "Whether Redis answers.", value=int(is_redis_up)),
        acts,
    ]


def cluster_collectors(cluster_stats: ClusterStats) -> list[Metric]:
    """Metrics of queues and workers. Every replica reports the same."""
    return [*_queues(cluster_stats), *_leases(cluster_stats.workers), *_reports(cluster_stats)]


def _queues(cluster_stats: ClusterStats) -> list[Metric]:
    labels = ["model", "priority"]
    waiting = GaugeMetricFamily("baton_queue_jobs", "Jobs waiting for a worker.", labels=labels)
    oldest = GaugeMetricFamily(
        "baton_queue_oldest_age_seconds", "Age of the first waiting job.", labels=labels
    )
    for queue in cluster_stats.queues:
        waiting.add_metric([queue.model, queue.priority], queue.waiting)
        oldest.add_metric([queue.model, queue.priority], queue.oldest_s)
    running = GaugeMetricFamily("baton_jobs_in_progress", "Jobs running on workers.", labels=["model"])
    jobs = Counter({queue.model: 0 for queue in cluster_stats.queues})
    for worker in cluster_stats.workers:
        jobs[worker.model] += worker.jobs
    for model, count in sorted(jobs.items()):
        running.add_metric([model], count)
    open_jobs = GaugeMetricFamily(
        "baton_jobs_open", "Jobs that are queued or running.", value=cluster_stats.open_jobs
    )
    return [waiting, oldest, running, open_jobs]


def _leases(workers: Sequence[WorkerState]) -> list[Metric]:
    up = GaugeMetricFamily("baton_workers", "Workers that hold a lease.", labels=["model"])
    for model, count in sorted(Counter(worker.model for worker in workers).items()):
        up.add_metric([model], count)
    slots = GaugeMetricFamily("baton_worker_slots", "Sequences that can run at once.", labels=_WORKER_LABELS)
    jobs = GaugeMetricFamily("baton_worker_jobs", "Jobs running on the worker.", labels=_WORKER_LABELS)
    wake_ups = GaugeMetricFamily(
        "baton_worker_wake_ups", "Celery messages that the worker holds.", labels=_WORKER_LABELS
    )
    for worker in {_labels(worker): worker for worker in workers}.values():
        for family, value in ((slots, worker.slots), (jobs, worker.jobs), (wake_ups, worker.wake_ups)):
            family.add_metric(_labels(worker), value)
    return [up, slots, jobs, wake_ups]


def _reports(cluster_stats: ClusterStats) -> list[Metric]:
    """Reports of the workers. Of two instances with one name the later process counts: the other one is dead."""
    latest: dict[tuple[str, ...], WorkerReport] = {}
    for worker in cluster_stats.workers:
        report = cluster_stats.reports.get(worker.worker_instance)
        known = latest.get(_labels(worker))
        if report is not None and (known is None or known.started_at < report.started_at):
            latest[_labels(worker)] = report
    return [_family(family, latest) for family in FAMILIES]


def _family(family: Family, reports: Mapping[tuple[str, ...], WorkerReport]) -> Metric:
    labels = [*_WORKER_LABELS, family.label] if family.label else list(_WORKER_LABELS)
    sampled = _KINDS[family.kind](family.name, family.help, labels=labels)
    for worker, report in reports.items():
        for own, value in report.measured.get(family.name, {}).items():
            values = [*worker, own] if family.label else list(worker)
            add(sampled, values, value, family.buckets)
    return sampled


_KINDS: Mapping[str, type[Sampled]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


def add(family: Sampled, labels: Sequence[str], value: Measured, buckets: Iterable[float]) -> None:
    """Add a sample to the family, or all samples of a histogram."""
    if isinstance(value, HistogramReading):
        assert isinstance(family, HistogramMetricFamily)
        family.add_metric(labels, _cumulated(value, buckets), value.sum)
    else:
        assert not isinstance(family, HistogramMetricFamily)
        family.add_metric(labels, value)


def _cumulated(reading: HistogramReading, buckets: Iterable[float]) -> list[tuple[str, float]]:
    total, samples = 0, []
    for bound, count in zip([*buckets, float("inf")], reading.counts, strict=True):
        total += count
        samples.append((_bound(bound), float(total)))
    return samples


def _bound(bound: float) -> str:
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]


def _labels(worker: WorkerState) -> tuple[str, str, str]:
    return worker.name, worker.model, worker.device
