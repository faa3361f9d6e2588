"""The options of `baton bench`, in three sets, and what they make."""

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
class Asked:
    """What is asked."""

    prompt_tokens: Annotated[str, typer.Option(metavar="N|A-B", help="About so long are prompts.")] = "64"
    output_tokens: Annotated[str, typer.Option(metavar="N|A-B", help="At most so long are answers.")] = "128"
    set: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Another field of the request; null leaves one out."),
    ] = None
    seed: Annotated[int, typer.Option(help="Of prompts and arrivals.")] = 0

    def workload(self) -> Workload:
        """Raises CommandError."""
        pairs = (pair_of(text, "--set") for text in self.set or [])
        extra = {name: read_value(text) for name, text in pairs}
        if extra.get("stream", True) is not True:
            raise CommandError("--set stream: only streams are measured", ExitCode.USAGE)
        return Workload(_lengths(self.prompt_tokens), _lengths(self.output_tokens), self.seed, extra)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How hard, and how long."""

    concurrency: Annotated[
        str | None, typer.Option(metavar="N,…", help="Closed loop: so many requests at once. [1,8,32]")
    ] = None
    rate: Annotated[
        str | None, typer.Option(metavar="X,…", help="Instead: Poisson arrivals, requests a second.")
    ] = None
    requests: Annotated[int | None, typer.Option(min=1, help="At most so many at each level.")] = None
    duration: Annotated[float | None, typer.Option(min=0.1, help="At most so many seconds each.")] = None
    rounds: Annotated[int, typer.Option(min=1, help="How often all of it is done.")] = 1
    warm_up: Annotated[int, typer.Option(min=0, help="Requests before, not counted.")] = 2
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a request may take.")] = 600

    def levels(self) -> tuple[Level, ...]:
        """Raises CommandError."""
        if self.concurrency is not None and self.rate is not None:
            raise CommandError("--concurrency and --rate exclude each other", ExitCode.USAGE)
        text = self.rate or self.concurrency or "1,8,32"
        try:
            if self.rate is not None:
                levels = [Level("rate", float(part)) for part in text.split(",")]
            else:
                levels = [Level("concurrency", int(part)) for part in text.split(",")]
        except ValueError as error:
            raise CommandError(f"not a list of numbers: {text}", ExitCode.USAGE) from error
        if not all(0 < level.value < float("inf") for level in levels) or len(set(levels)) < len(levels):
            raise CommandError("levels must be positive and differ", ExitCode.USAGE)
        return tuple(levels)


@dataclass(frozen=True, slots=True)
class SloOptions:
    """What makes an answer a good one."""

    slo_first_ms: Annotated[
        float | None, typer.Option(help="A good answer's first token is there by then.")
    ] = None
    slo_token_ms: Annotated[float | None, typer.Option(help="And each later one takes so long.")] = None
    slo_latency_ms: Annotated[float | None, typer.Option(help="And all of it is there by then.")] = None

    def slo(self) -> Slo:
        return Slo(self.slo_first_ms, self.slo_token_ms, self.slo_latency_ms)


def _lengths(text: str) -> Lengths:
    """Raises CommandError."""
    try:
        return Lengths.parse(text)
    except ValueError as error:
        raise CommandError(f"{text!r} is no length: write 128 or 64-256", ExitCode.USAGE) from error
