"""Metrics: what `/metrics` tells Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from starlette.types import Scope

from shared.lease import WorkerState

#: A name has two incarnations at once for as long as one that died is not given up.
_WORKER_LABELS = ("worker", "incarnation", "model", "device")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Metrics:
    """This replica's counters."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "baton_requests", "Answers by route and status", ["route", "status"], registry=self._registry
        )
        self._streams = Counter("baton_streams", "Streams begun", registry=self._registry)

    def count_request(self, scope: Scope, status: int) -> None:
        """An answer begins."""
        route = getattr(scope.get("route"), "path", "none")
        self._requests.labels(route, str(status)).inc()

    def count_stream(self) -> None:
        """A stream begins."""
        self._streams.inc()

    def render(self, gauges: Iterable[Metric]) -> bytes:
        """Prometheus text of this replica's counters and of `gauges`."""
        return generate_latest(self._registry) + generate_latest(_Snapshot(gauges))


class _Snapshot(CollectorRegistry):
    """Metrics that were just read elsewhere."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        super().__init__()
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def process_gauges(num_followers: int, *, is_redis_up: bool) -> list[Metric]:
    """What this replica holds now."""
    following = GaugeMetricFamily("baton_followers", "Readers that this replica serves now")
    following.add_metric([], num_followers)
    redis = GaugeMetricFamily("baton_redis_up", "Whether Redis answers")
    redis.add_metric([], int(is_redis_up))
    return [following, redis]


def store_gauges(depths: Mapping[str, int], workers: Iterable[WorkerState]) -> list[Metric]:
    """What the store knows: queues, and workers with their own statistics."""
    depth = GaugeMetricFamily("baton_queue_depth", "Jobs that wait", labels=["model"])
    for model, waiting in sorted(depths.items()):
        depth.add_metric([model], waiting)
    families: dict[str, GaugeMetricFamily] = {}
    for worker in workers:
        for name, value in _numbers(worker).items():
            if name not in families:
                families[name] = GaugeMetricFamily(
                    f"baton_worker_{name}", f"{name} of a worker", labels=_WORKER_LABELS
                )
            labels = [worker.name, worker.incarnation, worker.model, worker.device]
            families[name].add_metric(labels, value)
    return [depth, *families.values()]


def _numbers(worker: WorkerState) -> dict[str, float]:
    """Its statistics are its own: each number that it tells with a usable name becomes a metric."""
    told = {
        name: float(value)
        for name, value in worker.stats.items()
        if isinstance(value, int | float) and _NAME.fullmatch(name)
    }
    return told | {
        "up": 1.0,
        "slots": float(worker.slots),
        "running": float(worker.jobs),
        "steps": float(worker.steps),
        "bells": float(worker.bells),
    }
