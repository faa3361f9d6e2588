"""The options of `baton bench`: workload, load and service-level objectives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from cli.bench.load import Level
from cli.bench.summary import Slo
from cli.bench.workload import Lengths, Workload
from cli.client.generation_options import pair_of, read_value
from cli.errors import CommandError
from cli.exit_codes import ExitCode


@dataclass(frozen=True, slots=True)
class WorkloadOptions:
    """What the requests contain."""

    prompt_tokens: Annotated[
        str, typer.Option(metavar="N|A-B", help="Approximate length of prompts in tokens.")
    ] = "64"
    output_tokens: Annotated[
        str, typer.Option(metavar="N|A-B", help="Maximum length of answers in tokens.")
    ] = "128"
    set: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Set another request field; null removes one."),
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of prompts and arrival times.")] = 0

    def workload(self) -> Workload:
        """Raises CommandError."""
        pairs = (pair_of(text, "--set") for text in self.set or [])
        extra = {name: read_value(text) for name, text in pairs}
        if extra.get("stream", True) is not True:
            raise CommandError("--set stream: only streamed answers can be measured", ExitCode.USAGE)
        return Workload(_lengths(self.prompt_tokens), _lengths(self.output_tokens), self.seed, extra)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How much load, and for how long."""

    concurrency: Annotated[
        str | None,
        typer.Option(metavar="N,…", help="Closed loop with this many concurrent requests. [1,8,32]"),
    ] = None
    rate: Annotated[
        str | None,
        typer.Option(metavar="X,…", help="Poisson arrivals with this many requests per second instead."),
    ] = None
    requests: Annotated[int | None, typer.Option(min=1, help="Maximum number of requests per level.")] = None
    duration: Annotated[float | None, typer.Option(min=0.1, help="Maximum seconds per level.")] = None
    rounds: Annotated[int, typer.Option(min=1, help="How many times to repeat all levels.")] = 1
    warm_up: Annotated[int, typer.Option(min=0, help="Requests to send first and not count.")] = 2
    timeout: Annotated[float, typer.Option(min=0.1, help="Maximum seconds per request.")] = 600

    def levels(self) -> tuple[Level, ...]:
        """Raises CommandError."""
        if self.concurrency is not None and self.rate is not None:
            raise CommandError("--concurrency and --rate cannot be used together", ExitCode.USAGE)
        text = self.rate or self.concurrency or "1,8,32"
        try:
            if self.rate is not None:
                levels = [Level("rate", float(part)) for part in text.split(",")]
            else:
                levels = [Level("concurrency", int(part)) for part in text.split(",")]
        except ValueError as error:
            option = "--concurrency" if self.rate is None else "--rate"
            message = f"{option} {text}: expected numbers separated by commas"
            raise CommandError(message, ExitCode.USAGE) from error
        if not all(0 < level.value < float("inf") for level in levels) or len(set(levels)) < len(levels):
            option = "--concurrency" if self.rate is None else "--rate"
            raise CommandError(f"{option} {text}: the numbers must be positive and differ", ExitCode.USAGE)
        return tuple(levels)


@dataclass(frozen=True, slots=True)
class SloOptions:
    """Service-level objectives: an answer that meets all of them counts as good."""

    slo_first_ms: Annotated[
        float | None, typer.Option(help="Maximum time to first token of a good answer.")
    ] = None
    slo_token_ms: Annotated[
        float | None, typer.Option(help="Maximum mean time per later token of a good answer.")
    ] = None
    slo_latency_ms: Annotated[float | None, typer.Option(help="Maximum total time of a good answer.")] = None

    def slo(self) -> Slo:
        return Slo(self.slo_first_ms, self.slo_token_ms, self.slo_latency_ms)


def _lengths(text: str) -> Lengths:
    """Raises CommandError."""
    try:
        return Lengths.parse(text)
    except ValueError as error:
        raise CommandError(f"{text!r} is not a length; write 128 or 64-256", ExitCode.USAGE) from error
