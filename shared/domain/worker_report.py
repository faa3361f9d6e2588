"""WorkerReport: what a worker has measured since its start, for the API's `/metrics`.

FAMILIES lists the known metrics. Other metrics in a report are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from shared.domain.histogram import COUNTS, LONG_S, SHORT_S, HistogramReading
from shared.errors import DecodeError

Measured = float | HistogramReading

#: Maximum number of label values of one family of one worker.
_MAX_LABEL_VALUES = 32


@dataclass(frozen=True, slots=True)
class Family:
    """A metric that follows Prometheus's naming rules (https://prometheus.io/docs/practices/naming/)."""

    #: In base units. The samples of a counter end in `_total`.
    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    #: Its one label besides the worker's own.
    label: str | None = None
    buckets: tuple[float, ...] = ()


STEPS = Family("baton_worker_steps", "counter", "Steps of the engine.")
BATCH = Family(
    "baton_worker_batch_sequences", "histogram", "Sequences that drew a token in one step.", buckets=COUNTS
)
PHASES = Family(
    "baton_worker_step_phase_seconds", "histogram",
    "Parts of a step: schedule, run, and for each token of a row sample and postprocess. On a GPU sample "
    "waits for what run began.",
    "phase", SHORT_S,
)  # fmt: skip
PROMPT_TOKENS = Family("baton_worker_prompt_tokens", "counter", "Prompt tokens computed.")
OUTPUT_TOKENS = Family("baton_worker_output_tokens", "counter", "Tokens drawn.")
DRAFTED_TOKENS = Family(
    "baton_worker_drafted_tokens", "counter", "Tokens guessed and computed before they were drawn."
)
ACCEPTED_TOKENS = Family(
    "baton_worker_accepted_tokens", "counter", "Guessed tokens that were then drawn as well."
)
QUEUE_WAIT = Family(
    "baton_worker_queue_wait_seconds", "histogram",
    "From a job's acceptance to its first claim, by Redis's clock.", buckets=LONG_S,
)  # fmt: skip
FIRST_TOKEN = Family(
    "baton_worker_time_to_first_token_seconds", "histogram",
    "From a job's first claim to its first final token.", buckets=LONG_S,
)  # fmt: skip
BETWEEN_TOKENS = Family(
    "baton_worker_time_between_tokens_seconds", "histogram",
    "Between two steps that made tokens of one job final.", buckets=LONG_S,
)  # fmt: skip
PUBLISH = Family(
    "baton_worker_publish_seconds", "histogram",
    "One call that writes what became final, for all jobs, to Redis.", buckets=SHORT_S,
)  # fmt: skip
CLAIMS = Family("baton_worker_claims", "counter", "Jobs claimed.")
JOBS_ENDED = Family(
    "baton_worker_jobs_ended", "counter",
    "Jobs that left the worker: ended by it, or taken or handed away.", "outcome",
)  # fmt: skip
REAPER_ACTS = Family("baton_worker_reaper_acts", "counter", "What this worker's reaper did.", "act")
SLOTS_USED = Family("baton_worker_slots_used", "gauge", "Sequences that run.")
KV_TOKENS = Family(
    "baton_worker_kv_tokens", "gauge",
    "Tokens whose keys and values memory is allocated for, and as many as there may be.", "state",
)  # fmt: skip
PREEMPTIONS = Family(
    "baton_worker_preemptions", "counter", "Running sequences that had to wait again for lack of memory."
)
PREFIX_LOOKUPS = Family(
    "baton_worker_prefix_lookups", "counter",
    "Sequences that began as an earlier one of the same owner (hit), or not (miss).", "outcome",
)  # fmt: skip
PREFIX_TOKENS = Family(
    "baton_worker_prefix_tokens", "counter", "Tokens whose keys and values were copied, not computed."
)
NUMERICAL_ERRORS = Family(
    "baton_worker_numerical_errors", "counter",
    "Requests that failed because the model's logits were NaN or infinite.",
)  # fmt: skip
CPU = Family("baton_worker_cpu_seconds", "counter", "CPU time of the worker's process.")
MEMORY = Family("baton_worker_resident_memory_bytes", "gauge", "Memory of the worker's process.")
START_TIME = Family(
    "baton_worker_start_time_seconds", "gauge", "When the worker's process began, since the epoch."
)

FAMILIES: tuple[Family, ...] = (
    STEPS, BATCH, PHASES, PROMPT_TOKENS, OUTPUT_TOKENS, DRAFTED_TOKENS, ACCEPTED_TOKENS, QUEUE_WAIT,
    FIRST_TOKEN, BETWEEN_TOKENS, PUBLISH, CLAIMS, JOBS_ENDED, REAPER_ACTS, SLOTS_USED, KV_TOKENS, PREEMPTIONS,
    PREFIX_LOOKUPS, PREFIX_TOKENS, NUMERICAL_ERRORS, CPU, MEMORY, START_TIME,
)  # fmt: skip
_BY_NAME = {family.name: family for family in FAMILIES}


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """Measurements of one worker."""

    #: By the family's name and label value. The label value is empty for a family without a label.
    measured: Mapping[str, Mapping[str, Measured]]

    @property
    def started_at(self) -> float:
        """When the process started. Equal in all reports of one process."""
        started = self.measured.get(START_TIME.name, {}).get("", 0.0)
        return started if isinstance(started, int | float) else 0.0

    def encode(self) -> str:
        """Return compact JSON."""
        plain = {
            name: {label: _plain(value) for label, value in by_label.items()}
            for name, by_label in self.measured.items()
        }
        return json.dumps(plain, separators=(",", ":"))

    @classmethod
    def decode(cls, raw: str) -> WorkerReport:
        """Decode the families that this version knows. Raises DecodeError."""
        try:
            found: dict[str, Mapping[str, object]] = json.loads(raw)
            known = found.keys() & _BY_NAME
            return cls({name: _read(_BY_NAME[name], found[name]) for name in sorted(known)})
        except (ValueError, TypeError, AttributeError) as error:
            raise DecodeError("worker report", raw) from error


def _plain(value: Measured) -> float | list[object]:
    return [value.counts, value.sum] if isinstance(value, HistogramReading) else value


def _read(family: Family, by_label: Mapping[str, object]) -> dict[str, Measured]:
    labels = sorted(by_label)[:_MAX_LABEL_VALUES]
    return {label: _measured(family, by_label[label]) for label in labels}


def _measured(family: Family, value: object) -> Measured:
    if family.kind != "histogram":
        if not isinstance(value, int | float):
            raise ValueError(family.name)
        return float(value)
    if not isinstance(value, list) or len(value) != 2 or len(value[0]) != len(family.buckets) + 1:
        raise ValueError(family.name)
    return HistogramReading(tuple(map(int, value[0])), float(value[1]))
