"""Tables on stdout: fitted to a terminal, never cut for a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

#: Wide enough for every row that goes into a pipe.
_PIPE_WIDTH = 1000


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A row a line; None is an empty cell."""
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False).print(table)
