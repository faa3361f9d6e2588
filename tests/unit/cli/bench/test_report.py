"""The table and the notes below it."""

from __future__ import annotations

import dataclasses
from array import array

import pytest

from cli.bench.contest import Plan
from cli.bench.load import Level
from cli.bench.report import print_report
from cli.bench.sample import Sample
from cli.bench.summary import Measured, Percentiles, Slo, Summary, summarize
from cli.bench.workload import Lengths, Workload

LEVEL = Level("concurrency", 8)
PLAN = Plan(Workload(Lengths(64, 64), Lengths(16, 32)), (LEVEL,), 1, None, 1, 0, 10.0, Slo())
ABOUT = "times: p50 / p95 / p99; prompts of about 64 tokens, answers of up to 16-32"


def summary(target: str = "a", tokens: int = 10) -> Summary:
    sample = Sample(0.0, 0.001, 0.5, array("d", [0.1, 0.3]), tokens, 3)
    return summarize(target, LEVEL, [Measured([sample], 2.0, 0.5)], Slo())


def lines(capsys: pytest.CaptureFixture[str], *summaries: Summary) -> list[str]:
    print_report(summaries, PLAN)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_a_row_holds_all_figures(capsys: pytest.CaptureFixture[str]) -> None:
    headings, row, *notes = lines(capsys, summary())
    assert headings.split()[:5] == ["target", "load", "requests", "errors", "tokens/s"]
    times = "100 / 100 / 100 200 / 200 / 200 500 / 500 / 500"
    assert row.split() == ["a", "8", "1", "0", "5.0", "0.50", "0.50", *times.split(), "25", "%"]
    assert notes == [ABOUT]


def test_several_targets_are_set_against_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    _, first, second, *notes = lines(capsys, summary(), summary("b", tokens=25))
    assert first.split()[4:6] == ["5.0", "0.50"]
    assert second.split()[4:7] == ["12.5", "2.50", "0.50"]
    assert notes == [ABOUT, "ratio: tokens per second relative to a, median of 1 round(s)"]


def test_what_makes_figures_doubtful_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    doubtful = dataclasses.replace(
        summary(),
        token_source="chunks",
        errors={"cut": 2},
        client_cpu=0.8,
        late_ms=Percentiles(1, 2, 30),
    )
    assert lines(capsys, doubtful)[2:] == [
        ABOUT,
        "a at 8: tokens are counted as chunks because answers report no usage",
        "a at 8: 2 x cut",
        "a at 8: the load generator used most of a core; the server may be faster than shown",
        "a at 8: requests were sent late (p99 30 ms); this counts as latency",
    ]
