"""Plots the results of `baton bench`: throughput and latencies over the load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cli.bench.summary import Percentiles, Summary
from cli.errors import CommandError
from cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def check_plotting() -> None:
    """Raises CommandError if matplotlib is not installed. Call this before measuring."""
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError as error:
        message = "--png needs matplotlib: pip install 'baton[bench]'"
        raise CommandError(message, ExitCode.USAGE) from error


def write_plot(summaries: Sequence[Summary], path: Path) -> None:
    """Writes a PNG with three panels and one line per target. Needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    rate, first, latency = figure.subplots(1, 3)
    for target in dict.fromkeys(summary.target for summary in summaries):
        own = [summary for summary in summaries if summary.target == target]
        loads = [summary.level.value for summary in own]
        rate.plot(loads, [summary.tokens_per_s for summary in own], marker="o", label=target)
        _plot_times(first, loads, [summary.first_ms for summary in own], target)
        _plot_times(latency, loads, [summary.latency_ms for summary in own], target)
    unit = "concurrent requests" if summaries[0].level.kind == "concurrency" else "requests per second"
    titles = ("tokens per second", "time to first token, ms", "latency, ms")
    for panel, title in zip((rate, first, latency), titles, strict=True):
        panel.set(title=title, xlabel=unit, ylim=(0, None))
        panel.grid(alpha=0.3)
        panel.legend()
    figure.savefig(path, format="png", dpi=120)


def _plot_times(panel: Axes, loads: Sequence[float], times: Sequence[Percentiles | None], name: str) -> None:
    points = [(load, found) for load, found in zip(loads, times, strict=True) if found is not None]
    at = [load for load, _ in points]
    (line,) = panel.plot(at, [found.p50 for _, found in points], marker="o", label=f"{name} p50")
    tail = [found.p99 for _, found in points]
    panel.plot(at, tail, marker=".", linestyle="--", color=line.get_color(), label=f"{name} p99")
