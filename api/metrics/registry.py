"""Metrics: what one replica counts (names: https://prometheus.io/docs/practices/naming/)."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client import Histogram as LabelledHistogram
from prometheus_client.core import HistogramMetricFamily, Metric

from api.metrics.collectors import add
from api.metrics.request_record import RequestRecord
from api.metrics.stream_timer import StreamTimer
from shared.domain.histogram import LONG_S, SHORT_S, Histogram

#: Values of labels. Anything else that a client sends counts as `other`.
_METHODS = frozenset({"GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"})
_MAX_CODES = 100
#: Fields of other servers that clients are known to send. They are counted by name, all others as `other`.
_IGNORED = frozenset({
    "api_key", "best_of", "cache_prompt", "drop_params", "dynatemp_range", "enable_thinking", "extra_body",
    "extra_headers", "format", "id_slot", "keep_alive", "max_new_tokens", "mirostat", "n_predict", "n_probs",
    "num_ctx", "num_predict", "options", "plugins", "provider", "reasoning", "repeat_last_n", "repeat_penalty",
    "route", "samplers", "tfs_z", "think", "thinking", "timings_per_token", "top_a", "transforms", "typical_p",
})  # fmt: skip


class Metrics:
    """This replica's counters. All labels have a bounded number of values."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "baton_http_requests",
            "HTTP responses begun.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._durations = LabelledHistogram(
            "baton_http_request_duration_seconds", "From a request to the end of its response or stream.",
            ["route"], buckets=LONG_S, registry=self._registry,
        )  # fmt: skip
        self._refusals = Counter(
            "baton_refusals", "Error responses, by their code.", ["code"], registry=self._registry
        )
        self._ignored = Counter(
            "baton_ignored_parameters", "Unknown fields of requests, which were ignored.",
            ["name"], registry=self._registry,
        )  # fmt: skip
        self._streams = Counter(
            "baton_streams", "Streams that ended. complete: they were sent to their end.",
            ["outcome"], registry=self._registry,
        )  # fmt: skip
        self._open_streams = Gauge("baton_streams_open", "Streams being sent.", registry=self._registry)
        self._codes: set[str] = set()
        # Observed for each token: prometheus_client's histograms take several times as long.
        self._first_token, self._between_tokens = Histogram(LONG_S), Histogram(LONG_S)
        self._relay_lag = Histogram(SHORT_S)

    # Requests

    def ignored(self, paths: Iterable[str]) -> None:
        """A request has these unknown fields."""
        for path in paths:
            name = path.removeprefix("body.")
            self._ignored.labels(name if name in _IGNORED else "other").inc()

    def begun(self, record: RequestRecord) -> None:
        """A response begins."""
        method = record.method if record.method in _METHODS else "other"
        self._requests.labels(method, record.route, str(record.status)).inc()
        if record.error_code is not None:
            self._refusals.labels(self._bounded(record.error_code)).inc()
        if record.is_stream:
            self._open_streams.inc()

    def ended(self, record: RequestRecord) -> None:
        """A response that began has ended."""
        self._durations.labels(record.route).observe(record.duration_s)
        if record.is_stream:
            self._open_streams.dec()
            self._streams.labels("complete" if record.is_complete else "incomplete").inc()

    def _bounded(self, code: str) -> str:
        if len(self._codes) < _MAX_CODES:
            self._codes.add(code)
        return code if code in self._codes else "other"

    # Tokens

    def stream_meter(self, started_at: float) -> StreamTimer:
        """A timer for a stream whose request arrived at `started_at` (time.perf_counter)."""
        return StreamTimer(self._first_token, self._between_tokens, started_at)

    def relayed(self, lag_s: float) -> None:
        """A probe of the relay arrived."""
        self._relay_lag.observe(lag_s)

    # Rendering

    def render(self, families: Iterable[Metric]) -> bytes:
        """This replica's metrics and `families` as Prometheus text."""
        return generate_latest(self._registry) + generate_latest(_Snapshot([*self._tokens(), *families]))

    def _tokens(self) -> list[Metric]:
        own = (
            ("baton_time_to_first_token_seconds", self._first_token,
             "From a streamed request to the first write of output."),
            ("baton_time_between_tokens_seconds", self._between_tokens,
             "Between two writes of output to one streaming client."),
            ("baton_relay_lag_seconds", self._relay_lag,
             "From publishing in Redis to receiving it here, measured once a second by this replica's clock."),
        )  # fmt: skip
        families: list[Metric] = []
        for name, histogram, text in own:
            family = HistogramMetricFamily(name, text, labels=())
            add(family, (), histogram.read(), histogram.buckets)
            families.append(family)
        return families


class _Snapshot(CollectorRegistry):
    """Metrics of one rendering."""

    def __init__(self, families: Iterable[Metric]) -> None:
        super().__init__()
        self._found = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._found
