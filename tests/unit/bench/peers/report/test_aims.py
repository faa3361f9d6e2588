"""Ratios within a round, and the verdict on their median."""

from __future__ import annotations

from bench.peers.report.aims import AIMS, Aim, render_aims
from tests.unit.bench.peers.results import cell, results


def test_the_median_decides_and_says_by_how_much() -> None:
    aim = Aim("speed", lambda _: [], must=1.0, aim=1.25)
    assert aim.verdict([]) == "not measured"
    assert aim.verdict([0.5, 2.0, 0.75]) == "must missed by 25%"
    assert aim.verdict([1.0]) == "aim missed by 20%"
    assert aim.verdict([1.0, 1.25, 1.4]) == "reached"


def test_of_a_limit_less_is_better() -> None:
    aim = Aim("wait", lambda _: [], must=None, aim=0.5, is_limit=True)
    assert aim.verdict([0.4]) == "reached"
    assert aim.verdict([0.6]) == "aim missed by 20%"


def test_speed_is_held_against_the_best_server_of_the_same_round() -> None:
    cells = [
        cell("baton", round_=0, seconds=1.0),
        cell("baton", round_=1, seconds=1.0),
        cell("vLLM", round_=0, seconds=0.5),
        cell("llama.cpp BF16", round_=0, seconds=2.0),
        cell("llama.cpp BF16", round_=1, seconds=2.0),
        cell("bare loop", round_=1, seconds=0.1),
    ]
    text = render_aims("random", results(*cells))
    assert (
        "| tokens/s at 8, to the best bfloat16 server | 1 | 1.3 | 0.50 / 1.25 / 2.00 | aim missed by 4% |"
        in text
    )
    assert "| tokens/s at 32, to the bare loop | 2 | - | - | not measured |" in text
    assert "| start to first token, s | - | at most 5 | 4.50 | reached |" in text


def test_first_token_is_a_proportion_and_a_set_may_have_no_aims() -> None:
    cells = [cell("baton", 32, first_p50=300.0), cell("llama.cpp BF16", 32, first_p50=400.0)]
    assert "at most 0.7 | 0.75 | aim missed by 7% |" in render_aims("random", results(*cells))
    assert set(AIMS) == {"random", "smollm2"} and render_aims("random-1b", results(*cells)) == ""
