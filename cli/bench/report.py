"""Reports the results of `baton bench` as a table or as JSON."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from cli.bench.contest import Plan
from cli.bench.summary import Summary
from cli.bench.target import Target
from cli.terminal.table import print_table

#: Above this share of a core, the load generator itself may be the bottleneck.
_BUSY = 0.7
#: At p99. Above this, the report notes that requests were sent late.
_LATE_MS = 20
#: How tokens were counted if answers did not report their usage.
_SOURCES = {
    "chunks": "tokens are counted as chunks because answers report no usage",
    "both": "tokens are counted as chunks for answers that report no usage",
}
_HEADINGS = (
    "target", "load", "requests", "errors", "tokens/s", "ratio", "requests/s", "good/s",
    "first token ms", "between chunks ms", "latency ms", "client CPU",
)  # fmt: skip


def ratio(summary: Summary, base: Summary) -> float | None:
    """Throughput relative to the base, as the median of all rounds; None if the base had none."""
    ratios = [own / other for own, other in zip(summary.rounds, base.rounds, strict=True) if other]
    return statistics.median(ratios) if ratios else None


def with_bases(summaries: Sequence[Summary]) -> list[tuple[Summary, Summary]]:
    """Pairs each summary with that of the first target at the same level."""
    first = summaries[0].target
    at_level = {summary.level: summary for summary in summaries if summary.target == first}
    return [(summary, at_level[summary.level]) for summary in summaries]


def print_report(summaries: Sequence[Summary], plan: Plan) -> None:
    """Prints the table. Times are p50 / p95 / p99."""
    print_table(_HEADINGS, [_row(summary, base) for summary, base in with_bases(summaries)])
    sys.stdout.writelines(f"{note}\n" for note in _notes(summaries, plan))


def _row(summary: Summary, base: Summary) -> list[object]:
    against = None if summary.target == base.target else ratio(summary, base)
    return [
        summary.target,
        summary.level,
        summary.requests,
        sum(summary.errors.values()),
        f"{summary.tokens_per_s:.1f}",
        None if against is None else f"{against:.2f}",
        f"{summary.requests_per_s:.2f}",
        f"{summary.good_per_s:.2f}",
        summary.first_ms,
        summary.gap_ms,
        summary.latency_ms,
        f"{100 * summary.client_cpu:.0f} %",
    ]


def _notes(summaries: Sequence[Summary], plan: Plan) -> Iterator[str]:
    work, first = plan.workload, summaries[0].target
    yield f"times: p50 / p95 / p99; prompts of about {work.prompt} tokens, answers of up to {work.output}"
    if first != summaries[-1].target:
        yield f"ratio: tokens per second relative to {first}, median of {plan.rounds} round(s)"
    for summary in summaries:
        name = f"{summary.target} at {summary.level}"
        if summary.token_source != "usage" and summary.tokens:
            yield f"{name}: {_SOURCES[summary.token_source]}"
        yield from (f"{name}: {count} x {kind}" for kind, count in summary.errors.items())
        if summary.client_cpu > _BUSY:
            yield f"{name}: the load generator used most of a core; the server may be faster than shown"
        if summary.late_ms is not None and summary.late_ms.p99 > _LATE_MS:
            yield f"{name}: requests were sent late (p99 {summary.late_ms.p99:.0f} ms); this counts as latency"


def to_json(summaries: Sequence[Summary], targets: Sequence[Target], plan: Plan) -> dict[str, Any]:
    """All results, without the API keys."""
    return {
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "targets": [{"name": one.name, "url": one.base_url, "model": one.model} for one in targets],
        "workload": {
            "prompt_tokens": str(plan.workload.prompt),
            "output_tokens": str(plan.workload.output),
            "seed": plan.workload.seed,
            "extra": dict(plan.workload.extra),
        },
        "rounds": plan.rounds,
        "results": [
            {**summary.to_json(), "ratio": ratio(summary, base)} for summary, base in with_bases(summaries)
        ],
    }
