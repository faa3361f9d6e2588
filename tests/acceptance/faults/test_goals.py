from __future__ import annotations

import json
from pathlib import Path

from tests.acceptance.faults.verdict.figures import Figure
from tests.acceptance.faults.verdict.goals import Row, counted, of_runs, show


def test_goals_are_in_the_order_of_their_numbers() -> None:
    rows = [
        Row(Figure("R12 late", "2 s", "1 s"), "b"),
        Row(Figure("R4, R14 vanished", "0", "0"), "a"),
        Row(Figure("R2 next", "2 s", "1 s"), "a"),
    ]
    assert [line.split(" ")[1] for line in show(rows, (1.0, 2.0)).splitlines()[6:]] == ["R2", "R4,", "R12"]


def test_what_a_run_did_not_measure_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trials.json"
    found = [["R1 broken", "0", "0"], ["R3 next", "1 s", "not measured"], ["R13 api at the end", "flat", "x"]]
    path.write_text(json.dumps({"title": "t", "figures": found}))
    assert list(of_runs([path])) == [Row(Figure("R1 broken", "0", "0"), "trials")]


def test_a_test_that_was_skipped_has_not_passed() -> None:
    suite = '<testsuites><testsuite tests="9" errors="1" failures="2" skipped="1"/></testsuites>'
    assert counted(suite) == "5 of 9 pass"
