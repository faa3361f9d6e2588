"""The `baton bench` command."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.bench.contest import Contest, Plan
from cli.bench.options import LoadOptions, SloOptions, WorkloadOptions
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
        help="A server with an OpenAI-compatible API; may be repeated. Servers take turns and are compared with the "
        "first. API key: NAME_API_KEY (baton: BATON_API_KEYS), or OPENAI_API_KEY. Default: this home's Baton.",
    ),
]
_ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", help="Default: each server's first model.")
]
_JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the results as JSON.")
]
_PngOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Plot the results (needs baton[bench]).")
]


def bench(
    workload: WorkloadOptions,
    load: LoadOptions,
    slo: SloOptions,
    target: _TargetOption = None,
    model: _ModelOption = None,
    json_file: _JsonOption = None,
    png: _PngOption = None,
) -> None:
    """Measure the latency and throughput of servers under load.

    Reports the time to first token, the time between chunks, tokens per second and errors.
    """
    if png is not None:
        check_plotting()
    for path in (json_file, png):
        if path is not None and not path.absolute().parent.is_dir():
            raise CommandError(f"cannot write {path}: {path.parent} is not a directory", ExitCode.USAGE)
    plan = Plan(
        workload=workload.workload(),
        levels=load.levels(),
        requests=load.requests,
        duration_s=load.duration,
        rounds=load.rounds,
        warm_up=load.warm_up,
        timeout_s=load.timeout,
        slo=slo.slo(),
    )
    targets = [with_model(found) for found in find_targets(target or [], model)]
    summaries = asyncio.run(Contest(targets, plan, _show).run())
    print_report(summaries, plan)
    if json_file is not None:
        json_file.write_text(json.dumps(to_json(summaries, targets, plan), indent=2) + "\n", encoding="utf-8")
    if png is not None:
        write_plot(summaries, png)
    if any(summary.errors for summary in summaries):
        raise CommandError("some requests failed", ExitCode.FAILED)


def _show(progress: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"{progress}\n")
