"""Generates docs/configuration.md and docs/commands.md from the settings and the commands.

python -m tools.docs.reference docs
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from cli.commands.up import up
from cli.main import make_app
from shared.settings import VARIABLES

#: A fixed width, so that the output does not depend on the terminal.
_WIDTH = 100

_CONFIGURATION = """# Configuration

Baton is configured by environment variables, which each process reads once when it starts. Most can also be given to
`baton up` as a flag, which takes precedence. An unknown variable that starts with `BATON_` or an invalid value stops
the start with an error that names the variable. `make docs` generates this page from `shared/settings.py`.

| variable | flag of `baton up` | default | meaning |
|---|---|---|---|
"""
_COMMANDS = """# Commands

The output of `baton <command> --help` for every command. `make docs` generates this page.
"""


def configuration() -> str:
    """The text of docs/configuration.md."""
    flags = set(inspect.signature(up).parameters)
    rows = []
    for variable in VARIABLES:
        name = variable.name.removeprefix("BATON_").lower()
        flag = f"`--{name.replace('_', '-')}`" if name in flags else ""
        default = f"`{variable.default}`" if variable.default else ""
        rows.append(f"| `{variable.name}` | {flag} | {default} | {variable.doc} |\n")
    return _CONFIGURATION + "".join(rows)


def commands() -> str:
    """The text of docs/commands.md."""
    root = typer.main.get_command(make_app())
    return _COMMANDS + "".join(_section(path, text) for path, text in _helps(root, "baton", None))


def _helps(command: Any, path: str, parent: Any) -> Iterator[tuple[str, str]]:
    """Yields every command's path and help."""
    context = command.make_context(
        path.rpartition(" ")[2], [], parent, resilient_parsing=True, terminal_width=_WIDTH
    )
    yield path, command.get_help(context)
    if isinstance(command, TyperGroup):
        for name in command.list_commands(context):
            yield from _helps(command.get_command(context, name), f"{path} {name}", context)


def _section(path: str, text: str) -> str:
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return f"\n## {path}\n\n```text\n{lines}\n```\n"


def main(directory: str) -> None:
    """Write both pages."""
    Path(directory, "configuration.md").write_text(configuration(), encoding="utf-8")
    Path(directory, "commands.md").write_text(commands(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
