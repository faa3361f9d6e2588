"""The `baton` command: registers its subcommands and turns errors into exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Annotated

import typer

from cli.bench.command import bench
from cli.commands.chat import chat
from cli.commands.doctor import doctor
from cli.commands.jobs import cancel, jobs, watch
from cli.commands.ps import ps
from cli.commands.retry_delete import delete, retry
from cli.commands.submit import submit
from cli.commands.up import up
from cli.commands.workers import drain, start, workers
from cli.errors import CommandError
from cli.exit_codes import EXIT_CODES, ExitCode
from cli.options import unfold
from cli.terminal.streams import configure_streams
from shared.errors import BatonError, SettingsError

#: Every command, with the examples for its help.
_COMMANDS: tuple[tuple[Callable[..., None], tuple[str, ...]], ...] = (
    (up, ("baton up", "baton up --model ./Qwen3-0.6B --devices cuda:0,cuda:1 --port 9000")),
    (ps, ("baton ps", "baton ps --json")),
    (doctor, ("baton doctor", "BATON_MODEL=./Qwen3-0.6B baton doctor --json")),
    (chat, ("baton chat", 'baton chat "What is a queue?" --temperature 0', "baton chat < question.txt")),
    (
        submit,
        (
            'baton submit "What is a queue?" --wait',
            "baton submit --body request.json --priority low --json",
            "git diff | baton submit - --system 'Review this.' --metadata branch=main",
        ),
    ),
    (watch, ("baton watch job_0123456789abcdef01234567", "baton watch --poll --json job_0123456789abcdef")),
    (jobs, ("baton jobs --status in_progress --limit 5", "baton jobs --json")),
    (cancel, ("baton cancel job_0123456789abcdef01234567",)),
    (retry, ("baton retry job_0123456789abcdef01234567 --wait",)),
    (delete, ("baton delete job_0123456789abcdef01234567",)),
    (
        bench,
        (
            "baton bench --concurrency 1,8,32 --png speed.png",
            "baton bench --rate 2,4,8 --duration 60 --slo-first-ms 500",
            "baton bench --target vllm=http://gpu:8000 --target baton=http://gpu:9000 --rounds 3",
        ),
    ),
)  # fmt: skip
_WORKER_COMMANDS: tuple[tuple[Callable[..., None], tuple[str, ...]], ...] = (
    (drain, ("baton workers drain worker-1 --wait",)),
    (start, ("baton workers start worker-1",)),
)


def make_app() -> typer.Typer:
    """All subcommands."""
    app = typer.Typer(
        name="baton",
        help="Baton: durable LLM inference. Jobs and streams survive the death of any process.",
        epilog=_epilog("baton up", "baton chat", "baton --install-completion"),
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for command, examples in _COMMANDS:
        app.command(epilog=_epilog(*examples))(unfold(command))
    app.add_typer(_workers(), name="workers")
    return app


def main(args: Sequence[str] | None = None) -> None:
    configure_streams()
    try:
        make_app()(args, prog_name="baton")
    except CommandError as error:
        _end(error, error.code)
    except SettingsError as error:
        _end(error, ExitCode.CONFIG)
    except BatonError as error:
        _end(error, ExitCode.FAILED)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


def _end(error: BatonError, code: ExitCode) -> None:
    sys.stderr.write(f"baton: {error}\n")
    sys.exit(code)


def _workers() -> typer.Typer:
    group = typer.Typer(rich_markup_mode=None)
    group.callback(invoke_without_command=True, epilog=_epilog("baton workers", "baton workers --json"))(
        unfold(workers)
    )
    for command, examples in _WORKER_COMMANDS:
        group.command(epilog=_epilog(*examples))(unfold(command))
    return group


def _epilog(*examples: str) -> str:
    """Examples, then the exit codes. `\\b` keeps Click from rewrapping the first paragraph."""
    return "\b\nExamples:\n" + "".join(f"  {example}\n" for example in examples) + f"\n{EXIT_CODES}"


def _show_version(requested: bool) -> None:
    if requested:
        sys.stdout.write(f"baton {metadata.version('baton')}\n")
        raise typer.Exit


def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of `baton` itself; their callbacks do the work."""


if __name__ == "__main__":
    main()
