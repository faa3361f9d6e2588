from __future__ import annotations

from tests.soak.report import Moment, growth_mib, page


def _moments(*sizes: int) -> list[Moment]:
    return [Moment(i, 10 * i, i, i, 0, 64, size) for i, size in enumerate(sizes)]


def test_growth_ignores_the_first_quarter_and_released_memory() -> None:
    assert growth_mib(_moments(100, 200, 220, 230, 210, 240, 235, 233)) == 5
    assert growth_mib(_moments(100, 200, 300, 230, 210, 240, 235, 233)) == -65


def test_a_page_has_a_row_per_moment_and_shows_missing_slots() -> None:
    written = page("make soak", "a machine", _moments(1, 2, 3, 4), (11, 12))
    assert "| 3 | 30 | 3 | 3 | 0 | 64 | 4 |" in written
    assert "then 11 sequences run at once, in a new engine 12" in written
