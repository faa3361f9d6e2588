"""Prints tables to stdout: fitted to a terminal, never truncated in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

#: Wide enough that no row in a pipe is wrapped.
_PIPE_WIDTH = 1000


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints one row per line. None is an empty cell."""
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False).print(table)
