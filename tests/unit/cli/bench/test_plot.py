"""The plot, and the error if it cannot be drawn."""

from __future__ import annotations

import sys
from array import array
from pathlib import Path

import pytest

from cli.bench.load import Level
from cli.bench.plot import check_plotting, write_plot
from cli.bench.sample import Sample
from cli.bench.summary import Measured, Slo, Summary, summarize
from cli.errors import CommandError


def summary(target: str, concurrency: int, error: str | None = None) -> Summary:
    samples = [Sample(0.0, 0.0, 1.0, array("d", [0.1, 0.2]), 2, 3, error)]
    return summarize(target, Level("concurrency", concurrency), [Measured(samples, 1.0, 0.1)], Slo())


def test_a_png_is_written_also_where_a_level_has_nothing_but_errors(tmp_path: Path) -> None:
    summaries = [summary("a", 1), summary("b", 1), summary("a", 8), summary("b", 8, error="cut")]
    check_plotting()
    write_plot(summaries, tmp_path / "speed.png")
    content = (tmp_path / "speed.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n") and len(content) > 10_000


def test_a_missing_matplotlib_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(CommandError, match=r"matplotlib: pip install 'baton\[bench\]'"):
        check_plotting()
