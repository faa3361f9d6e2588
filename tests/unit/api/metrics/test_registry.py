"""What `/metrics` tells can be parsed, is named by the rules, and stays bounded."""

from __future__ import annotations

import re

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from api.errors import ERROR_CODE
from api.metrics.collectors import cluster_collectors, replica_collectors
from api.metrics.registry import Metrics
from api.metrics.request_record import RequestRecord
from shared.cluster.cluster_stats import ClusterStats, QueueState
from shared.domain import worker_report as families
from shared.domain.histogram import HistogramReading
from shared.domain.lease import WorkerState
from shared.domain.worker_report import FAMILIES, Family, Measured, WorkerReport

LABELS = {"worker": "w-0", "model": "m", "device": "cpu"}
#: What a name that ends otherwise would have to be measured in.
BASE_UNITS = ("_seconds", "_bytes", "_total")
COUNTED = ("_jobs", "_sequences", "_tokens", "_wake_ups", "_slots", "_workers", "_used", "_open", "_in_progress",
           "_subscriptions", "_up")  # fmt: skip


def worker(worker_instance: str = "w-0.a", name: str = "w-0") -> WorkerState:
    return WorkerState(
        worker_instance, name, "m", "host", 1, "cpu", 32, is_exact=True, beat=1, steps=9, wake_ups=2, jobs=3
    )


def value_of(family: Family) -> Measured:
    if family.kind == "histogram":
        return HistogramReading((1,) * (len(family.buckets) + 1), 2.5)
    return 5.0


def full_report(started_at: float = 1.0) -> WorkerReport:
    measured = {f.name: {"x" if f.label else "": value_of(f)} for f in FAMILIES}
    return WorkerReport({**measured, families.START_TIME.name: {"": started_at}})


def record(metrics: Metrics, *, status: int = 200, code: str | None = None, method: str = "GET") -> None:
    scope = {"type": "http", "method": method, "state": {}}
    seen = RequestRecord(scope)
    if code is not None:
        scope["state"] = seen._state
        seen._state[ERROR_CODE] = code
    headers = [(b"content-type", b"text/event-stream")]
    seen.see({"type": "http.response.start", "status": status, "headers": headers})
    metrics.begun(seen)
    seen.see({"type": "http.response.body", "body": b"", "more_body": False})
    metrics.ended(seen)


def cluster_stats(*workers: WorkerState, reports: dict[str, WorkerReport] | None = None) -> ClusterStats:
    queues = (QueueState("m", "high", 0, 0.0), QueueState("m", "normal", 7, 1.5))
    return ClusterStats(queues, 10, workers, reports or {})


def parse(metrics: Metrics, found: ClusterStats) -> dict[str, Metric]:
    own = replica_collectors(4, {"resent": 2}, is_redis_up=True)
    text = metrics.render([*own, *cluster_collectors(found)]).decode()
    parsed = list(text_string_to_metric_families(text))
    by_name = {family.name: family for family in parsed}
    assert len(by_name) == len(parsed)
    return by_name


@pytest.fixture
def everything() -> dict[str, Metric]:
    """All families there are, each with a sample."""
    metrics = Metrics()
    record(metrics, status=429, code="rate_limit_exceeded")
    metrics.relayed(0.001)
    return parse(metrics, cluster_stats(worker(), reports={"w-0.a": full_report()}))


def test_every_family_of_the_workers_table_is_shown(everything: dict[str, Metric]) -> None:
    for family in FAMILIES:
        shown = everything[family.name]
        assert (shown.type, shown.documentation) == (family.kind, family.help)
        for sample in shown.samples:
            own = {family.label: "x"} if family.label else {}
            assert {k: v for k, v in sample.labels.items() if k != "le"} == LABELS | own


def test_names_units_and_help_follow_the_rules(everything: dict[str, Metric]) -> None:
    for name, family in everything.items():
        assert family.documentation.strip(), name
        assert name.startswith(("baton_", "process_")), name
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name), name
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|percent|count|sum|bucket|created)$", name), (
            name
        )
        for sample in family.samples:
            match family.type:
                case "counter":
                    assert sample.name == f"{name}_total"
                case "histogram":
                    assert name.endswith(("_seconds", "_sequences")), name
                case "gauge":
                    assert not name.endswith("_total"), name
                    assert name.endswith(BASE_UNITS + COUNTED) or name.startswith("process_"), name
                case other:
                    raise AssertionError(f"{name} is {other}")


def test_buckets_of_a_histogram_add_up(everything: dict[str, Metric]) -> None:
    samples = everything[families.PUBLISH.name].samples
    counts = [sample.value for sample in samples if sample.name.endswith("_bucket")]
    assert counts == list(range(1, len(families.PUBLISH.buckets) + 2))
    values = {sample.name.rpartition("_")[2]: sample.value for sample in samples}
    assert (values["count"], values["sum"]) == (counts[-1], 2.5)
    assert samples[0].labels["le"] == "1e-05"


def test_queues_workers_and_this_replica_are_told(everything: dict[str, Metric]) -> None:
    values = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in everything.values()
        for sample in family.samples
    }
    by_worker = sorted(LABELS.items())
    expected = {
        ("baton_http_requests_total", ("method", "GET"), ("route", "none"), ("status", "429")): 1,
        ("baton_refusals_total", ("code", "rate_limit_exceeded")): 1,
        ("baton_streams_total", ("outcome", "complete")): 1,
        ("baton_streams_open",): 0,
        ("baton_subscriptions",): 4,
        ("baton_redis_up",): 1,
        ("baton_reaper_acts_total", ("act", "resent")): 2,
        ("baton_queue_jobs", ("model", "m"), ("priority", "normal")): 7,
        ("baton_queue_oldest_age_seconds", ("model", "m"), ("priority", "normal")): 1.5,
        ("baton_jobs_in_progress", ("model", "m")): 3,
        ("baton_jobs_open",): 10,
        ("baton_workers", ("model", "m")): 1,
        ("baton_worker_slots", *by_worker): 32,
        ("baton_worker_wake_ups", *by_worker): 2,
        ("baton_worker_steps_total", *by_worker): 5,
    }
    assert {key: values[key] for key in expected} == expected


def test_of_two_instances_with_one_name_the_later_process_is_shown() -> None:
    both = cluster_stats(
        worker("w-0.b"),
        worker("w-0.a"),
        reports={"w-0.a": full_report(1.0), "w-0.b": full_report(2.0)},
    )
    (sample,) = parse(Metrics(), both)[families.START_TIME.name].samples
    assert sample.value == 2.0


def test_a_worker_without_a_report_has_a_lease_at_least() -> None:
    found = parse(Metrics(), cluster_stats(worker()))
    assert found["baton_worker_slots"].samples[0].value == 32
    assert found[families.STEPS.name].samples == []


def test_what_clients_send_makes_no_unbounded_labels() -> None:
    metrics = Metrics()
    for number in range(150):
        record(metrics, status=400, code=f"code_{number}", method=f"X{number}")
    found = parse(metrics, cluster_stats())
    assert {sample.labels["method"] for sample in found["baton_http_requests"].samples} == {"other"}
    codes = {sample.labels["code"]: sample.value for sample in found["baton_refusals"].samples}
    assert len(codes) == 101 and codes["other"] == 50
