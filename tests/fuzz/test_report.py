from __future__ import annotations

from pathlib import Path

from tests.fuzz.report import section, update
from tests.fuzz.tally import Budget, Tally


def tallied() -> Tally:
    tally = Tally()
    for _ in range(3):
        tally.add("bodies", "400")
    tally.add("bodies", "200")
    tally.fault("bodies", "status 500", "POST | `x`\n")
    tally.fault("bodies", "status 500", "another")
    tally.note_ended(["worker-1: boom"], "request 4")
    return tally


def test_a_section_counts_attacks_faults_and_ends() -> None:
    text = section("HTTP", "python -m tests.fuzz", tallied(), 2.0)
    assert "**4 attacks, 1 processes ended, 1 faults.**" in text
    assert "| bodies | 4 | 200: 1, 400: 3 |" in text
    assert "| status 500 | bodies | 2 | `POST ¦ 'x'·` |" in text
    assert "- ended: worker-1: boom (after request 4)" in text


def test_a_part_replaces_its_own_section_alone(tmp_path: Path) -> None:
    page = tmp_path / "fuzz.md"
    update(page, "http", "old\n")
    update(page, "redis", "other\n")
    update(page, "http", "new\n")
    text = page.read_text()
    assert "old" not in text and text.index("new") < text.index("other")


def test_a_budget_ends_with_its_tries_or_its_time() -> None:
    assert Budget(tries=2).is_left(1) and not Budget(tries=2).is_left(2)
    assert not Budget(tries=2, seconds=0).is_left(0)
