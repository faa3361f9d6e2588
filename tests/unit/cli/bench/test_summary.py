"""Summaries of samples with known times."""

from __future__ import annotations

from array import array

import pytest

from cli.bench.load import Level
from cli.bench.report import ratio, with_bases
from cli.bench.sample import Sample
from cli.bench.summary import Measured, Percentiles, Slo, Summary, summarize

LEVEL = Level("concurrency", 2)


def sample(*texts: float, ended: float = 1.0, tokens: int | None = None, error: str | None = None) -> Sample:
    return Sample(0.0, 0.001, ended, array("d", texts), tokens, 3 if tokens else None, error)


def test_percentiles_lie_between_neighbours() -> None:
    assert Percentiles.of([]) is None
    assert Percentiles.of([0.002]) == Percentiles(2, 2, 2)
    assert Percentiles.of([second / 100 for second in range(101)]) == Percentiles(500, 950, 990)
    assert str(Percentiles(1.25, 99.96, 1234.5)) == "1.2 / 100.0 / 1234"


def test_only_whole_answers_count() -> None:
    runs = [
        Measured([sample(0.1, 0.2, 0.4, tokens=6), sample(0.3, 0.4, tokens=2)], 1.0, 0.1),
        Measured([sample(0.5, error="cut"), sample(error="cut"), sample(error="timeout")], 1.0, 0.3),
    ]
    summary = summarize("a", LEVEL, runs, Slo())
    assert (summary.requests, summary.errors) == (5, {"cut": 2, "timeout": 1})
    assert (summary.tokens, summary.prompt_tokens, summary.chunks, summary.token_source) == (8, 6, 5, "usage")
    assert (summary.tokens_per_s, summary.requests_per_s, summary.good_per_s) == (4, 1, 1)
    assert summary.rounds == (8, 0)
    assert summary.client_cpu == pytest.approx(0.2)
    assert (summary.first_ms, summary.gap_ms) == (Percentiles(200, 290, 298), Percentiles(100, 190, 198))
    assert summary.latency_ms == Percentiles(1000, 1000, 1000)


def test_nothing_but_errors_has_no_times() -> None:
    summary = summarize("a", LEVEL, [Measured([sample(error="cut")], 2.0, 0.0)], Slo())
    assert (summary.first_ms, summary.gap_ms, summary.latency_ms, summary.tokens_per_s) == (
        None,
        None,
        None,
        0,
    )


@pytest.mark.parametrize(
    ("samples", "source"),
    [
        ([sample(0.1, tokens=2), sample(0.1, tokens=2)], "usage"),
        ([sample(0.1), sample(0.1)], "chunks"),
        ([sample(0.1), sample(0.1, tokens=2)], "both"),
    ],
)
def test_it_tells_how_tokens_were_counted(samples: list[Sample], source: str) -> None:
    assert summarize("a", LEVEL, [Measured(samples, 1.0, 0.0)], Slo()).token_source == source


@pytest.mark.parametrize(
    ("slo", "good"),
    [
        (Slo(), 3),
        (Slo(first_ms=150), 1),
        (Slo(token_ms=101), 2),
        (Slo(latency_ms=1500), 2),
        (Slo(first_ms=350, token_ms=101, latency_ms=1500), 1),
    ],
)
def test_good_answers_keep_every_bound(slo: Slo, good: int) -> None:
    samples = [
        sample(0.1, 0.4, ended=1.0, tokens=3),  # 150 ms a token
        sample(0.3, 0.4, ended=1.0, tokens=2),
        sample(0.3, ended=2.0, tokens=1),
        sample(0.1, error="cut"),
    ]
    assert summarize("a", LEVEL, [Measured(samples, 1.0, 0.0)], slo).good == good


def test_ratios_are_against_the_first_target_round_by_round() -> None:
    def made(target: str, *rates: int) -> Summary:
        return summarize(
            target, LEVEL, [Measured([sample(0.1, tokens=rate)], 1.0, 0.0) for rate in rates], Slo()
        )

    base, other = made("a", 2, 4, 10), made("b", 4, 4, 30)
    assert with_bases([base, other]) == [(base, base), (other, base)]
    assert ratio(other, base) == 2
    assert ratio(other, summarize("a", LEVEL, [Measured([], 1.0, 0.0)] * 3, Slo())) is None


def test_json_names_everything_and_rounds_nothing_away() -> None:
    summary = summarize("a", Level("rate", 2.5), [Measured([sample(0.1, 0.2, tokens=4)], 2.0, 0.5)], Slo())
    assert summary.to_json() == {
        "target": "a",
        "rate": 2.5,
        "tokens_per_s": 2.0,
        "requests_per_s": 0.5,
        "good_per_s": 0.5,
        "requests": 1,
        "errors": {},
        "good": 1,
        "seconds": 2.0,
        "tokens": 4,
        "prompt_tokens": 3,
        "chunks": 2,
        "token_source": "usage",
        "first_ms": {"p50": 100, "p95": 100, "p99": 100},
        "gap_ms": {"p50": 100, "p95": 100, "p99": 100},
        "latency_ms": {"p50": 1000, "p95": 1000, "p99": 1000},
        "late_ms": {"p50": 1, "p95": 1, "p99": 1},
        "client_cpu": 0.25,
        "rounds": (2.0,),
    }
