"""Plots the results: tokens per second and latencies over the number of streams."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.peers.figures import Cell, Results

_PANELS: tuple[tuple[str, Callable[[Cell], float | None]], ...] = (
    ("tokens per second", lambda cell: cell.tokens_per_s),
    ("first token p50, ms", lambda cell: cell.first_p50),
    ("first token p99, ms", lambda cell: cell.first_p99),
    ("between tokens p50, ms", lambda cell: cell.gap_p50),
    ("between tokens p99, ms", lambda cell: cell.gap_p99),
)


def write_plot(results: Results, path: Path) -> None:
    """Writes a PNG with one panel per figure. Lines connect a contestant's medians; dots are single rounds."""
    figure = Figure(figsize=(20, 4.2), layout="constrained")
    panels = figure.subplots(1, len(_PANELS))
    for panel, (title, read) in zip(panels, _PANELS, strict=True):
        for name in results.names:
            _draw(panel, results, name, read)
        ticks = results.streams
        panel.set(title=title, xlabel="streams", ylim=(0, None), xscale="log", xticks=ticks)
        panel.set_xticklabels([str(tick) for tick in ticks])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=100)


def _draw(panel: Axes, results: Results, name: str, read: Callable[[Cell], float | None]) -> None:
    dots = [
        (streams, value)
        for streams in results.streams
        for cell in results.of(name, streams)
        if (value := read(cell)) is not None
    ]
    levels = sorted({streams for streams, _ in dots})
    medians = [statistics.median(value for at, value in dots if at == streams) for streams in levels]
    (line,) = panel.plot(levels, medians, label=name)
    panel.plot([at for at, _ in dots], [value for _, value in dots], ".", color=line.get_color())
