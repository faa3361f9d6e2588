from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from cli.supervisor.child import Child
from cli.supervisor.display.status_display import Display
from cli.supervisor.plan import ChildPlan

_LINE = "2026-01-01T00:00:00.000Z INFO    worker-1 workers.loading: " + "loading " * 40


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Child:
    child = Child(ChildPlan("worker", "worker-1", ("x",), {}, device="cpu"), tmp_path, 0)
    monkeypatch.setattr(child, "last_lines", lambda _: [_LINE])
    return child


def test_a_line_for_each_change(child: Child) -> None:
    out = io.StringIO()
    with Display(Console(file=out)) as display:
        for state in ("starting", "starting", "ready", "restarting"):
            child.state, child.exit_reason = state, "killed by SIGKILL"
            display.changed([child])
    lines = out.getvalue().splitlines()
    assert [line[:22].strip() for line in lines] == [
        "worker-1   starting",
        "worker-1   ready",
        "worker-1   restarting",
    ]
    assert lines[0].startswith("worker-1   starting   loading loading")
    assert lines[1].endswith(" cpu")
    assert lines[2].endswith(" killed by SIGKILL")


def test_in_a_terminal_a_long_line_of_a_log_leaves_the_rest_readable(child: Child) -> None:
    out = io.StringIO()
    with Display(Console(file=out, force_terminal=True, width=60)) as display:
        display.changed([child])
    assert "worker-1  starting  loading loading" in out.getvalue().replace("\x1b[2m", "")


def test_brackets_in_a_text_are_no_markup() -> None:
    out = io.StringIO()
    Display(Console(file=out)).line("[red]x[/red]")
    assert out.getvalue() == "[red]x[/red]\n"
