from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from cli.options import unfold


@dataclass(frozen=True, slots=True)
class Place:
    url: Annotated[list[str] | None, typer.Option("--url")] = None
    key: Annotated[str | None, typer.Option("--api-key", help="A key.")] = None


def test_a_command_gets_the_fields_of_its_sets_as_flags() -> None:
    called: list[object] = []

    def command(place: Place, word: Annotated[str, typer.Argument()], loud: bool = False) -> None:
        """What it does."""
        called.extend([place, word, loud])

    app = typer.Typer()
    app.command()(unfold(command))
    runner = CliRunner()
    assert runner.invoke(app, ["--url", "a", "hello", "--url", "b", "--loud"]).exit_code == 0
    assert called == [Place(["a", "b"], None), "hello", True]
    shown = runner.invoke(app, ["--help"]).output
    assert "What it does." in shown and "A key." in shown and "--place" not in shown
