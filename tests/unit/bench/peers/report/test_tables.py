"""The tables: spreads, ratios within a round, and notes about single rows."""

from __future__ import annotations

from dataclasses import replace

from bench.peers.figures import Bound
from bench.peers.report.tables import render, spread
from tests.unit.bench.peers.results import cell, results


def rows(text: str, first: str) -> list[list[str]]:
    """The cells of all rows that start with this word."""
    lines = (line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith(f"| {first}"))
    return list(lines)


def test_a_spread_is_minimum_median_and_maximum() -> None:
    assert spread([3.0, 100.4, 12.34]) == "3.00 / 12.3 / 100"
    assert spread([3.0, None]) == "3.00"
    assert spread([None]) == "-"


def test_ratios_are_of_the_same_round() -> None:
    ours = [cell("baton", round_=n, seconds=1.0, first_p50=100.0) for n in range(3)]
    # The rival failed in the second round.
    theirs = [cell("rival", round_=0), cell("rival", round_=2, seconds=4.0, gap_p50=30.0)]
    text = render(results(*ours, *theirs), "baton")
    assert "| baton / … | streams | tokens/s | first token p50 | between tokens p50 |" in text
    assert ["rival", "8", "2.00 / 3.00 / 4.00", "0.50 / 0.50 / 0.50", "0.50 / 0.75 / 1.00"] in rows(
        text, "rival"
    )


def test_a_row_that_others_disturbed_is_marked() -> None:
    text = render(results(cell("baton"), cell("rival", other_cores=0.3)), "baton")
    assert rows(text, "8 streams") and rows(text, "rival")[0][0] == "rival (x)"
    assert rows(text, "baton")[0][:2] == ["baton", "512"]
    assert "- (x): others used more than 0.1 cores" in text


def test_failures_and_what_is_missing_are_told() -> None:
    cells = [
        cell("baton"),
        cell("rival", errors={"timeout": 2}, short=3),
        cell("pairs", pieces=512),
        cell("slow", requests=5),
        cell("nothing", tokens=0, pieces=0, first_p50=None),
    ]
    text = render(results(*cells, vLLM="pip failed"), "baton")
    assert "- rival: requests that failed, at 8: {'timeout': 2} of 8" in text
    assert "- rival: 3 answers were shorter than requested" in text
    assert "- slow: too slow for all chats: 5 of 8 at 8 streams" in text
    assert "- pairs: 2.00 tokens a piece of text" in text
    assert "- vLLM is missing, or has fewer rounds: pip failed" in text
    assert ["nothing", "8", "-", "-", "1.00"] in rows(text, "nothing")


def test_alone_it_has_no_ratios() -> None:
    assert "baton / " not in render(results(cell("baton", 1), cell("baton", 8)), "baton")


def test_shares_of_what_the_machine_allows() -> None:
    bound = Bound("2 threads", {8: 1024.0})
    text = render(replace(results(cell("baton"), cell("rival", seconds=1.0)), bounds=(bound,)), "baton")
    assert "| share of the first bound, by streams | 8 |" in text
    assert "| bound, tokens/s: 2 threads | 1024 |" in text
    assert ["baton", "50%"] in rows(text, "baton") and ["rival", "100%"] in rows(text, "rival")
