"""The command `baton bench`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.bench.contest import Contest, Plan
from cli.bench.options import Asked, LoadOptions, SloOptions
from cli.bench.plot import check_plotting, write_plot
from cli.bench.report import print_report, to_json
from cli.bench.target import find_targets, with_model
from cli.errors import CommandError
from cli.exit_codes import ExitCode

_TargetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="NAME=URL[#MODEL]",
        help="A server that speaks OpenAI's API; several are measured in turn, against the first. "
        "The key: NAME_API_KEY (baton: BATON_API_KEYS), else OPENAI_API_KEY. Default: this home's Baton.",
    ),
]
_ModelOption = Annotated[str | None, typer.Option("--model", "-m", help="Default: a server's first one.")]
_JsonOption = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures.")]
_PngOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw them (needs baton[bench]).")]


def bench(
    asked: Asked,
    pressed: LoadOptions,
    good: SloOptions,
    target: _TargetOption = None,
    model: _ModelOption = None,
    json_file: _JsonOption = None,
    png: _PngOption = None,
) -> None:
    """Measure servers under load: first token, time between chunks, tokens a second, errors."""
    if png is not None:
        check_plotting()
    for path in (json_file, png):
        if path is not None and not path.absolute().parent.is_dir():
            raise CommandError(f"{path.parent} is no directory", ExitCode.USAGE)
    plan = Plan(
        workload=asked.workload(),
        levels=pressed.levels(),
        requests=pressed.requests,
        duration_s=pressed.duration,
        rounds=pressed.rounds,
        warm_up=pressed.warm_up,
        timeout_s=pressed.timeout,
        slo=good.slo(),
    )
    targets = [with_model(found) for found in find_targets(target or [], model)]
    summaries = asyncio.run(Contest(targets, plan, _show).run())
    print_report(summaries, plan)
    if json_file is not None:
        json_file.write_text(json.dumps(to_json(summaries, targets, plan), indent=2) + "\n")
    if png is not None:
        write_plot(summaries, png)
    if any(summary.errors for summary in summaries):
        raise CommandError("some requests failed", ExitCode.FAILED)


def _show(what: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"{what}\n")
