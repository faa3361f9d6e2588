"""Measures what invalid input costs: the time to reject bodies of up to 1 MiB, and the effect on other clients.

Uses real processes: `baton up` with one API replica, a client that sends invalid bodies, paced or back to back, and a
client that measures the time to first token meanwhile. Each run is compared with the same replica just before it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.harness.spread import spread
from bench.harness.stream_client import stream_chat
from tests.acceptance.system import System
from tests.tiny_chat_model import make_tiny_chat_model


@contextmanager
def attacking(url: str, rate: float) -> Iterator[list[tuple[str, float]]]:
    """Sends invalid bodies in the background. Afterwards the list holds the time (ms) of each rejection."""
    times: list[tuple[str, float]] = []
    command = [sys.executable, "-m", "bench.harness.bad_bodies", url, str(rate)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield times
        times += json.loads(process.communicate(timeout=60)[0])
    finally:
        process.kill()


def first_tokens(url: str, count: int, label: Any) -> float:
    """Median time (ms) to the first token of `count` chats, one after the other."""
    bodies = [
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": f"{label} {index}: count to thirty"}],
            "max_tokens": 2,
            "temperature": 0,
        }
        for index in range(count)
    ]
    return statistics.median(1000 * asyncio.run(stream_chat(url, body)).first_s for body in bodies)


def compare(system: System, *, rate: float, runs: int, count: int) -> None:
    """Prints the rejection times and times to first token of all runs."""
    url, p99s, calm, ratios, slowest, number = system.urls[0], [], [], [], ("", 0.0), 0
    for run in range(runs):
        before = first_tokens(url, count, f"calm {run}")
        with attacking(url, rate) as times:
            meanwhile = first_tokens(url, count, f"busy {run}")
        p99s.append(statistics.quantiles([took for _, took in times], n=100, method="inclusive")[98])
        slowest = max(slowest, *times, key=lambda one: one[1])
        calm.append(before)
        ratios.append(meanwhile / before)
        number += len(times)
    pace = f"{rate:g} invalid bodies per second" if rate else "invalid bodies back to back"
    print(f"\n{pace}: {runs} runs, {number} rejected; min / median / max over runs")
    print(f"  time to reject, p99:     {spread(p99s, 1)} ms (slowest: {slowest[1]:.1f} ms, {slowest[0]})")
    print(f"  first token undisturbed: {spread(calm, 1)} ms")
    print(f"  first token meanwhile:   {spread(ratios)} times that", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="model directory; default: a tiny model")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--count", type=int, default=40, help="first tokens to measure per run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        model = options.model or make_tiny_chat_model(Path(directory) / "tiny")
        system = System(model.absolute(), API_REPLICAS="1", DTYPE="auto")
        try:
            system.start()
            first_tokens(system.urls[0], 10, "warm")
            for rate in (5, 20, 0):
                compare(system, rate=rate, runs=options.runs, count=options.count)
        finally:
            system.remove()


if __name__ == "__main__":
    main()
