"""Summarizes all samples of one target at one load level."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cli.bench.load import Level
from cli.bench.sample import Sample


@dataclass(frozen=True, slots=True)
class Percentiles:
    """In milliseconds."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Percentiles | None:
        """Interpolates between neighbours; None if there are no values."""
        ordered = sorted(seconds)
        if not ordered:
            return None
        return cls(*(round(1000 * _at(ordered, share), 3) for share in (0.5, 0.95, 0.99)))

    def __str__(self) -> str:
        return " / ".join(f"{value:.0f}" if value >= 100 else f"{value:.1f}" for value in self._values())

    def _values(self) -> tuple[float, ...]:
        return self.p50, self.p95, self.p99


@dataclass(frozen=True, slots=True)
class Slo:
    """Limits in milliseconds that a good answer meets; None: no limit."""

    first_ms: float | None = None
    #: Mean time per token after the first.
    token_ms: float | None = None
    latency_ms: float | None = None

    def is_met(self, sample: Sample) -> bool:
        bounds = (
            (sample.first_s, self.first_ms),
            (sample.token_s or 0.0, self.token_ms),
            (sample.latency_s, self.latency_ms),
        )
        return all(most is None or (value is not None and 1000 * value <= most) for value, most in bounds)


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: its samples, its duration, and the CPU time that this process spent on it."""

    samples: Sequence[Sample]
    seconds: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Summary:
    """One row of the table. Except for `requests` and `errors`, only complete answers count."""

    target: str
    level: Level
    requests: int
    errors: dict[str, int]
    good: int
    seconds: float
    tokens: int
    prompt_tokens: int | None
    chunks: int
    token_source: Literal["usage", "chunks", "both"]
    first_ms: Percentiles | None
    gap_ms: Percentiles | None
    latency_ms: Percentiles | None
    #: How late requests were sent. The load generator causes this, and it is part of all latencies.
    late_ms: Percentiles | None
    #: Share of one core that the load generator itself used.
    client_cpu: float
    #: Tokens per second in each round.
    rounds: tuple[float, ...]

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds

    @property
    def requests_per_s(self) -> float:
        return (self.requests - sum(self.errors.values())) / self.seconds

    @property
    def good_per_s(self) -> float:
        return self.good / self.seconds

    def to_json(self) -> dict[str, Any]:
        fields = asdict(self)
        level = fields.pop("level")
        rates = {name: round(getattr(self, name), 3) for name in ("tokens_per_s", "requests_per_s")}
        return {
            "target": fields.pop("target"),
            level["kind"]: level["value"],
            **rates,
            "good_per_s": round(self.good_per_s, 3),
            **fields,
        }


def summarize(target: str, level: Level, runs: Sequence[Measured], slo: Slo) -> Summary:
    """Combines all rounds of a target at a level. Needs at least one run."""
    samples = [sample for run in runs for sample in run.samples]
    whole = [sample for sample in samples if sample.error is None]
    prompts = [sample.prompt_tokens for sample in whole if sample.prompt_tokens is not None]
    return Summary(
        target=target,
        level=level,
        requests=len(samples),
        errors=dict(Counter(sample.error for sample in samples if sample.error is not None).most_common()),
        good=sum(slo.is_met(sample) for sample in whole),
        seconds=sum(run.seconds for run in runs),
        tokens=sum(sample.num_tokens for sample in whole),
        prompt_tokens=sum(prompts) if prompts else None,
        chunks=sum(len(sample.texts) for sample in whole),
        token_source=_source(whole),
        first_ms=Percentiles.of(sample.first_s for sample in whole if sample.first_s is not None),
        gap_ms=Percentiles.of(gap for sample in whole for gap in sample.gaps_s),
        latency_ms=Percentiles.of(sample.latency_s for sample in whole),
        late_ms=Percentiles.of(sample.sent - sample.intended for sample in samples),
        client_cpu=sum(run.cpu_s for run in runs) / sum(run.seconds for run in runs),
        rounds=tuple(_rate(run) for run in runs),
    )


def _rate(run: Measured) -> float:
    return sum(sample.num_tokens for sample in run.samples if sample.error is None) / run.seconds


def _source(samples: Sequence[Sample]) -> Literal["usage", "chunks", "both"]:
    with_usage = sum(sample.completion_tokens is not None for sample in samples)
    if with_usage == len(samples):
        return "usage"
    return "both" if with_usage else "chunks"


def _at(ordered: Sequence[float], share: float) -> float:
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
