"""Metrics are Prometheus text."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from api.metrics import Metrics, process_gauges, store_gauges
from shared.lease import WorkerState

WORKER = WorkerState(
    "w-0-abcd", "w-0", "m", "host", 1, "cpu", 32, is_exact=True, beat=1, steps=9, bells=2, jobs=3,
    stats={"tokens_total": 5, "batch_mean": 1.5, "bad name": 1, "device": "cpu"},
)  # fmt: skip


def test_counters_queues_and_workers_are_told() -> None:
    metrics = Metrics()
    metrics.count_request({}, 200)
    metrics.count_stream()
    gauges = [*process_gauges(4, is_redis_up=True), *store_gauges({"m": 7}, [WORKER])]
    families = text_string_to_metric_families(metrics.render(gauges).decode())
    values = {sample.name: sample.value for family in families for sample in family.samples}
    expected = {
        "baton_requests_total": 1,
        "baton_streams_total": 1,
        "baton_followers": 4,
        "baton_redis_up": 1,
        "baton_queue_depth": 7,
        "baton_worker_tokens_total": 5,
        "baton_worker_batch_mean": 1.5,
        "baton_worker_slots": 32,
        "baton_worker_running": 3,
        "baton_worker_steps": 9,
        "baton_worker_bells": 2,
        "baton_worker_up": 1,
    }
    assert {name: values[name] for name in expected} == expected
    assert "baton_worker_bad name" not in values and "baton_worker_device" not in values
