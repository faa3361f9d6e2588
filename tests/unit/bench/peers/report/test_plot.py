"""The plot of the results."""

from __future__ import annotations

from pathlib import Path

from bench.peers.report.plot import write_plot
from tests.unit.bench.peers.results import cell, results


def test_a_png_is_written_also_where_a_cell_has_no_times(tmp_path: Path) -> None:
    cells = [cell("a", 1), cell("a", 8), cell("b", 1), cell("b", 8, first_p50=None, gap_p50=None)]
    write_plot(results(*cells), tmp_path / "new" / "speed.png")
    content = (tmp_path / "new" / "speed.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n") and len(content) > 10_000
