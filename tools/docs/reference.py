"""Reference: docs/configuration.md and docs/commands.md, made of the settings and the commands.

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

#: Wide enough that no help text is wrapped by the terminal in which this runs.
_WIDTH = 100

_CONFIGURATION = """# Configuration

Environment variables, read once when a process starts; those with a flag can be given to `baton up` as well,
and the flag wins. A variable that begins with `BATON_` and is not in this table stops the start, as does a
value that cannot be read: both name the variable. This page is made of shared/settings.py by `make docs`.

| variable | flag of `baton up` | default | meaning |
|---|---|---|---|
"""
_COMMANDS = """# Commands

What `baton <command> --help` says, for all of them. This page is made by `make docs`.
"""


def configuration() -> str:
    """docs/configuration.md."""
    flags = set(inspect.signature(up).parameters)
    rows = []
    for variable in VARIABLES:
        name = variable.name.removeprefix("BATON_").lower()
        flag = f"`--{name.replace('_', '-')}`" if name in flags else ""
        default = f"`{variable.default}`" if variable.default else ""
        rows.append(f"| `{variable.name}` | {flag} | {default} | {variable.doc} |\n")
    return _CONFIGURATION + "".join(rows)


def commands() -> str:
    """docs/commands.md."""
    root = typer.main.get_command(make_app())
    return _COMMANDS + "".join(_section(path, text) for path, text in _helps(root, "baton", None))


def _helps(command: Any, path: str, parent: Any) -> Iterator[tuple[str, str]]:
    """Every command by its path, with its help."""
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
    Path(directory, "configuration.md").write_text(configuration())
    Path(directory, "commands.md").write_text(commands())


if __name__ == "__main__":
    main(sys.argv[1])
