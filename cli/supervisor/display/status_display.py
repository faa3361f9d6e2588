"""Shows the state of the processes: a live table in a terminal during the start, lines otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from cli.supervisor.child import Child
from cli.supervisor.display.log_line import log_text
from cli.supervisor.state_file import State

_MARKS: dict[State, Text] = {
    "ready": Text("✓", "green"),
    "restarting": Text("!", "yellow"),
    "drained": Text("-", "dim"),
    "stopped": Text("-", "dim"),
    "failed": Text("✗", "red"),
}


class Display:
    """As a context manager it shows the start. The supervisor calls `changed`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._children: Sequence[Child] = ()
        self._shown: dict[str, State] = {}
        self._spinner = Spinner("dots")
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(get_renderable=self._table, console=console, refresh_per_second=8)

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def changed(self, children: Sequence[Child]) -> None:
        """Show the states that changed."""
        self._children = children
        for child in children:
            if self._shown.get(child.plan.id) != child.state:
                if not self._live or child.state == "restarting":
                    self.line(_describe(child))
                self._shown[child.plan.id] = child.state

    def line(self, text: str) -> None:
        """Print text without interpreting markup. The processes go on if the terminal is gone."""
        with suppress(OSError, SystemExit):  # rich makes a SystemExit of a broken pipe
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(width=1)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        # Uses the remaining width, so that a long log line does not squeeze the other columns.
        table.add_column(no_wrap=True, overflow="ellipsis", style="dim", ratio=1)
        for child in self._children:
            mark = _MARKS.get(child.state, self._spinner)
            table.add_row(mark, child.plan.id, child.state, _detail(child))
        return table


def _describe(child: Child) -> str:
    return f"{child.plan.id:<10} {child.state:<10} {_detail(child)}".rstrip()


def _detail(child: Child) -> str:
    """What to show beside the state."""
    match child.state:
        case "starting":
            return " ".join(log_text(line) for line in child.last_lines(1))
        case "restarting":
            return child.exit_reason
        case "ready":
            return child.plan.url or child.plan.device or ""
        case "drained" | "stopped" | "failed":
            return ""
