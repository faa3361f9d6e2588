"""The `baton` command: puts its subcommands together and turns errors into exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from cli.chat import chat
from cli.errors import CommandError
from cli.exit_codes import EPILOG, ExitCode
from cli.jobs import cancel, jobs, submit, watch
from cli.processes import ps, workers
from cli.up import up


def make_app() -> typer.Typer:
    """All subcommands."""
    app = typer.Typer(
        name="baton",
        help="Baton: queue-based LLM inference that loses no token.",
        epilog=EPILOG,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for command in (up, ps, chat, submit, watch, jobs, cancel, workers):
        app.command(epilog=EPILOG)(command)
    return app


def main(args: Sequence[str] | None = None) -> None:
    try:
        make_app()(args)
    except CommandError as error:
        sys.stderr.write(f"baton: {error}\n")
        sys.exit(error.code)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


if __name__ == "__main__":
    main()
