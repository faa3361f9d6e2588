"""Compares Baton's whole path over HTTP with other servers that have the same weights: `make bench-engine`.

Writes tables and plots to docs/benchmarks.md, which explains the method.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from bench.peers.figures import Results
from bench.peers.lineup import RIVALS, Setup, line_up
from bench.peers.report.aims import render_aims
from bench.peers.report.document import NoMarkers, check_markers, write_part
from bench.peers.report.machine import describe_baton, describe_machine
from bench.peers.report.plot import write_plot
from bench.peers.report.tables import render
from bench.peers.rivals.virtual_env import VirtualEnvs
from bench.peers.roofline import bounds
from bench.peers.rounds import Plan, Rounds
from bench.peers.scope import SCOPES
from bench.peers.weights.forms import Weights, directory_weights, random_weights, smollm2_weights
from bench.peers.weights.prompts import Prompts
from cli.client.generation_options import pair_of
from cli.errors import CommandError
from shared.host.cores import available_cores
from workers.engine.loading.threads import default_threads
from workers.native.ops import has_products

SETS = ("random", "smollm2", "random-1b")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--model", type=Path, help="measure this model directory instead of the sets")
    parser.add_argument(
        "--rivals", nargs="*", choices=RIVALS, help="default: the rivals of the set (scope.py)"
    )
    parser.add_argument(
        "--variant", action="append", default=[], type=settings_of, metavar="NAME=VALUE[,…]",
        help="also measure Baton with these settings; threads=2 sets BATON_THREADS=2",
    )  # fmt: skip
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--runs", type=int, help="default: 3; random-1b: 2")
    parser.add_argument("--waves", type=int, default=1, help="chats per stream in a run")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--output-tokens", type=int, help="default: 128; random-1b: 32")
    parser.add_argument("--limit-s", type=float, default=15, help="send no requests after this time of a run")
    parser.add_argument("--budget-s", type=float, help="time for all rounds of a set; slow servers get fewer")
    parser.add_argument("--quick", action="store_true", help="one run of one wave")
    parser.add_argument("--home", type=Path, default=Path(".baton"), help="BATON_HOME for models and builds")
    parser.add_argument(
        "--document", type=Path, help="Markdown file; default for the sets: docs/benchmarks.md"
    )
    parser.add_argument("--torch-index", help="package index with CPU builds of torch, for the rivals")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.waves = 1, 1
    if options.document is None and options.model is None:
        options.document = Path("docs/benchmarks.md")
    return options


def settings_of(text: str) -> dict[str, str]:
    """Parses `threads=2,quant=int8`. Raises CommandError."""
    return dict(pair_of(pair, "--variant") for pair in text.split(","))


def weights_of(options: argparse.Namespace, cache: Path) -> Iterator[tuple[str, Weights]]:
    """Yields each part of the document with its weights."""
    if options.model is not None:
        yield "model", directory_weights(options.model.absolute())
        return
    for name in options.sets:
        is_real = name == "smollm2"
        yield name, smollm2_weights(options.home, cache) if is_real else random_weights(name, cache)


def measure(part: str, weights: Weights, options: argparse.Namespace, setup: Setup) -> Results:
    scope = SCOPES[part]
    rivals = scope.rivals if options.rivals is None else options.rivals
    setup = replace(setup, variants=(*scope.variants, *options.variant))
    contestants, missing = line_up(weights, rivals, setup)
    plan = Plan(
        streams=tuple(options.streams),
        runs=options.runs or scope.runs,
        output_tokens=options.output_tokens or scope.output_tokens,
        waves=options.waves,
        limit_s=options.limit_s,
        budget_s=options.budget_s or scope.budget_s,
    )
    own_threads = default_threads(has_products(torch.device("cpu"), torch.bfloat16))
    threads = sorted({setup.cores, own_threads}, reverse=True)
    found = bounds(weights.directory, threads, plan.streams, options.prompt_tokens, plan.output_tokens)
    results = Rounds(contestants, Prompts(weights.directory, options.prompt_tokens), plan).run()
    return replace(results, missing={**missing, **results.missing}, bounds=found)


def write(part: str, weights: Weights, results: Results, document: Path | None) -> None:
    """Writes tables to stdout and into the document, and the plot and all raw results beside it."""
    command = shlex.join(["python", "-m", "bench.peers", *sys.argv[1:]])
    head = (
        f"### {weights.title}\n\n"
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, `{command}`. {describe_machine()}.\n"
        f"Versions: {'; '.join(dict.fromkeys(results.versions.values()))}.\n"
    )
    tables = "\n\n".join(filter(None, (render(results, "baton"), render_aims(part, results))))
    print(f"\n{head}\n{tables}\n", flush=True)
    if document is None:
        return
    folder = document.parent / document.stem
    write_plot(results, folder / f"{part}.png")
    (folder / f"{part}.json").write_text(json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8")
    picture = f"![Tokens a second and latencies over streams]({document.stem}/{part}.png)"
    write_part(document, part, f"{head}\n{picture}\n\n{tables}")


def main() -> None:
    options = arguments()
    cache = options.home.absolute() / "bench"
    for part in ["model"] if options.model is not None else options.sets:
        if options.document is not None:
            check_markers(options.document, part)
    (cache / "logs").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="baton-") as home:
        setup = Setup(
            venvs=VirtualEnvs(cache / "venvs", options.torch_index),
            home=Path(home),
            logs=cache / "logs",
            slots=max(options.streams),
            cores=available_cores(),
            version=describe_baton(),
        )
        aims = []
        for part, weights in weights_of(options, cache):
            results = measure(part, weights, options, setup)
            write(part, weights, results, options.document)
            aims.append(render_aims(part, results))
    print("\n\n".join(filter(None, aims)))


if __name__ == "__main__":
    # Servers run in their own sessions, so exit in an orderly way that stops them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        main()
    except (NoMarkers, CommandError) as error:
        sys.exit(str(error))
