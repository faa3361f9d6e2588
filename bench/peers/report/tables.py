"""Renders results as Markdown tables. All figures are the minimum / median / maximum of the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

from bench.peers.figures import DISTURBED, Cell, Results, RoundRecord

_Figure = Callable[[Cell], float | None]
_COLUMNS: tuple[tuple[str, _Figure], ...] = (
    ("tokens/s", lambda cell: cell.tokens_per_s),
    ("first token p50", lambda cell: cell.first_p50),
    ("first token p99", lambda cell: cell.first_p99),
    ("between tokens p50", lambda cell: cell.gap_p50),
    ("between tokens p99", lambda cell: cell.gap_p99),
    ("CPU ms a token", lambda cell: cell.cpu_ms_per_token),
    ("others' cores", lambda cell: cell.other_cores),
)
_RATIOS: tuple[tuple[str, _Figure], ...] = (
    ("tokens/s", lambda cell: cell.tokens_per_s),
    ("first token p50", lambda cell: cell.first_p50),
    ("between tokens p50", lambda cell: cell.gap_p50),
)
#: With fewer pieces of text per token than this, gaps are not times between tokens.
_MERGED = 0.95


def spread(values: Sequence[float | None]) -> str:
    """Minimum, median and maximum; a single value alone; "-" without values."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    figures = [min(known), statistics.median(known), max(known)] if len(known) > 1 else known
    return " / ".join(_figure(figure) for figure in figures)


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def render(results: Results, base: str) -> str:
    """All tables, and notes about single rows."""
    parts = [_streams_table(results, streams) for streams in results.streams]
    if base in results.names and len(results.names) > 1:
        parts.append(_ratio_table(results, base))
    parts.append(_rounds_table(results))
    if results.bounds:
        parts.append(_bounds_table(results))
    notes = list(_notes(results))
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _streams_table(results: Results, streams: int) -> str:
    rows = []
    for name in results.names:
        cells = results.of(name, streams)
        mark = " (x)" if any(cell.is_disturbed for cell in cells) else ""
        figures = [spread([figure(cell) for cell in cells]) for _, figure in _COLUMNS]
        rows.append([f"{name}{mark}", *figures])
    heading = "1 stream" if streams == 1 else f"{streams} streams"
    return table([heading, *(name for name, _ in _COLUMNS)], rows)


def _ratio_table(results: Results, base: str) -> str:
    rows = [
        [
            name,
            str(streams),
            *(spread(_ratios(results, base, name, streams, figure)) for _, figure in _RATIOS),
        ]
        for name in results.names
        if name != base
        for streams in results.streams
    ]
    return table([f"{base} / …", "streams", *(name for name, _ in _RATIOS)], rows)


def _ratios(results: Results, base: str, name: str, streams: int, figure: _Figure) -> list[float | None]:
    """The ratio in each round in which both took part."""
    theirs = {cell.round: figure(cell) for cell in results.of(name, streams)}
    pairs = [(figure(cell), theirs.get(cell.round)) for cell in results.of(base, streams)]
    return [ours / other if ours is not None and other else None for ours, other in pairs]


def _rounds_table(results: Results) -> str:
    columns: tuple[tuple[str, Callable[[RoundRecord], float]], ...] = (
        ("start to first token, s", lambda record: record.start_s),
        ("peak memory, MiB", lambda record: record.peak_mib),
    )
    rows = [
        [name, *(spread([figure(record) for record in results.visits_of(name)]) for _, figure in columns)]
        for name in results.names
    ]
    return table(["", *(name for name, _ in columns)], rows)


def _bounds_table(results: Results) -> str:
    """The bounds, and each contestant's median as a share of the first bound."""
    streams = results.streams
    rows = [
        [f"bound, tokens/s: {bound.name}", *(_figure(bound.tokens_per_s[num]) for num in streams)]
        for bound in results.bounds
    ]
    for name in results.names:
        rows.append([name, *(_share(results, name, num) for num in streams)])
    return table(["share of the first bound, by streams", *map(str, streams)], rows)


def _share(results: Results, name: str, streams: int) -> str:
    speeds = [cell.tokens_per_s for cell in results.of(name, streams)]
    bound = results.bounds[0].tokens_per_s[streams]
    return f"{statistics.median(speeds) / bound:.0%}" if speeds else "-"


def _notes(results: Results) -> Iterator[str]:
    if any(cell.is_disturbed for cell in results.cells):
        yield f"(x): others used more than {DISTURBED} cores in a round: slower than the machine allows."
    for name, reason in results.missing.items():
        yield f"{name} is missing, or has fewer rounds: {reason}"
    planned = {streams: _most_requests(results, streams) for streams in results.streams}
    for name in results.names:
        cells = [cell for cell in results.cells if cell.contestant == name]
        yield from (f"{name}: {text}" for text in _cell_notes(cells, planned))


def _most_requests(results: Results, streams: int) -> int:
    return max(cell.requests for cell in results.cells if cell.streams == streams)


def _cell_notes(cells: Sequence[Cell], planned: Mapping[int, int]) -> Iterator[str]:
    if cut := [cell for cell in cells if cell.requests < planned[cell.streams]]:
        counts = dict.fromkeys(f"{one.requests} of {planned[one.streams]} at {one.streams}" for one in cut)
        yield f"too slow for all chats: {', '.join(counts)} streams"
    if failed := [cell for cell in cells if cell.errors]:
        kinds = "; ".join(f"at {cell.streams}: {cell.errors} of {cell.requests}" for cell in failed)
        yield f"requests that failed, {kinds}"
    if short := sum(cell.short for cell in cells):
        yield f"{short} answers were shorter than requested"
    tokens, pieces = sum(cell.tokens for cell in cells), sum(cell.pieces for cell in cells)
    if tokens and pieces < _MERGED * tokens:
        yield f"{tokens / pieces:.2f} tokens a piece of text: its gaps are times between pieces"
