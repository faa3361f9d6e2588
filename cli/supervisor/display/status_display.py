"""Display: what `baton up` shows. In a terminal a live table until all is up; else lines."""

from __future__ import annotations

from collections.abc import Sequence
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
    """As a context manager: shows the start. `changed` is for the Supervisor."""

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
        """Show what is new."""
        self._children = children
        for child in children:
            if self._shown.get(child.plan.id) != child.state:
                if not self._live or child.state == "restarting":
                    self.line(_describe(child))
                self._shown[child.plan.id] = child.state

    def line(self, text: str) -> None:
        """Text as it stands, whatever it holds."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(width=1)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        # Takes what the others leave, so that a long line of a log does not squeeze them.
        table.add_column(no_wrap=True, overflow="ellipsis", style="dim", ratio=1)
        for child in self._children:
            mark = _MARKS.get(child.state, self._spinner)
            table.add_row(mark, child.plan.id, child.state, _detail(child))
        return table


def _describe(child: Child) -> str:
    return f"{child.plan.id:<10} {child.state:<10} {_detail(child)}".rstrip()


def _detail(child: Child) -> str:
    """What is worth knowing in this state."""
    match child.state:
        case "starting":
            return " ".join(log_text(line) for line in child.last_lines(1))
        case "restarting":
            return child.exit_reason
        case "ready":
            return child.plan.url or child.plan.device or ""
        case "drained" | "stopped" | "failed":
            return ""
