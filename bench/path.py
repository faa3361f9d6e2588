"""Measures the overhead of the whole path, from HTTP through the queue and back, over the bare engine.

It measures tokens per second at 1, 8 and 32 streams on a real model. It also measures what the path adds to the time
to first token with Redis's `everysec` and `always`, on a tiny model whose own time is negligible. Both sides take
turns at serving the same prompts with the same weights and threads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
import uvloop

from api.dialects.openai_chat.dialect import OpenAIChat
from bench.harness.spread import spread
from bench.harness.stream_client import stream_all, stream_chat
from tests.acceptance.system import System
from tests.tiny_chat_model import make_tiny_chat_model

NUM_TOKENS = 128
STREAMS = (1, 8, 32)


class BareEngine:
    """Talks to a process that runs bench.harness.bare_engine."""

    def __init__(self, model: Path, dtype: str, threads: str) -> None:
        command = [sys.executable, "-m", "bench.harness.bare_engine", "--model", str(model), "--dtype", dtype]
        command += ["--threads", threads] if threads else []
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        self._read()

    def run(self, bodies: list[dict[str, Any]]) -> dict[str, float]:
        assert self._process.stdin is not None
        requests = [OpenAIChat().parse(body).request.encode() for body in bodies]
        self._process.stdin.write(json.dumps(requests) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None
        answer = json.loads(self._process.stdout.readline())
        assert isinstance(answer, dict)
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def bodies(count: int, round_: int, num_tokens: int = NUM_TOKENS) -> list[dict[str, Any]]:
    """Chats with different first words. Each answer has exactly `num_tokens` tokens."""
    text = "Count from {} upwards, one number after the other, and do not stop before you reach one thousand."
    return [
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": text.format(1 + index + 40 * round_)}],
            "max_tokens": num_tokens,
            "temperature": 0,
            "ignore_eos": True,
        }
        for index in range(count)
    ]


def throughput(system: System, bare: BareEngine, rounds: int) -> None:
    """Measures tokens per second of both sides, in pairs."""
    print(f"\ntokens per second, {NUM_TOKENS} tokens a stream, {rounds} rounds: min / median / max")
    print(f"{'streams':>8}{'whole path':>26}{'bare engine':>26}{'path / engine':>24}")
    for count in STREAMS:
        path_rates, bare_rates = [], []
        for round_ in range(rounds):
            chats = bodies(count, round_)
            tokens, seconds = uvloop.run(stream_all(system.urls[0], chats))
            path_rates.append(tokens / seconds)
            figures = bare.run(chats)
            assert figures["tokens"] == tokens, (figures["tokens"], tokens)
            bare_rates.append(figures["tokens"] / figures["seconds"])
        ratios = [path / engine for path, engine in zip(path_rates, bare_rates, strict=True)]
        print(
            f"{count:>8}{spread(path_rates, 1):>26}{spread(bare_rates, 1):>26}{spread(ratios):>24}",
            flush=True,
        )


def first_token(system: System, bare: BareEngine, rounds: int, fsync: str) -> None:
    """Measures what the path adds to the time to first token of a single request, in pairs."""
    added = []
    for round_ in range(rounds + 2):
        (chat,) = bodies(1, round_, num_tokens=4)
        path_s = uvloop.run(stream_chat(system.urls[0], chat)).first_s
        engine_s = bare.run([chat])["first_s"]
        if round_ >= 2:  # the first two warm caches and connections
            added.append(1000 * (path_s - engine_s))
    commit = commit_ms(system)
    print(f"first token, {fsync:>8}: path adds {spread(added, 1)} ms; one commit {commit:.2f} ms", flush=True)


def commit_ms(system: System) -> float:
    """Median time in ms of one write to the system's Redis from this machine."""
    redis_url = next(part["url"] for part in system.parts() if part["role"] == "redis")
    with redis.Redis.from_url(redis_url) as client:
        times = []
        for _ in range(100):
            started = time.perf_counter()
            client.set("bench:commit", "1", px=1000)
            times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path(".baton/models/SmolLM2-135M-Instruct"))
    parser.add_argument("--dtype", default="auto")
    parser.add_argument(
        "--threads", default="", help="compute threads on both sides; default: the engine's choice"
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        tiny = make_tiny_chat_model(Path(directory) / "tiny")
        for fsync in ("everysec", "always"):
            with both_sides(tiny, "float32", options.threads, fsync) as (system, bare):
                first_token(system, bare, 10 * options.rounds, fsync)
    with both_sides(options.model.absolute(), options.dtype, options.threads, "always") as (system, bare):
        throughput(system, bare, options.rounds)


@contextmanager
def both_sides(model: Path, dtype: str, threads: str, fsync: str) -> Iterator[tuple[System, BareEngine]]:
    """Starts the whole system and the bare engine, and waits until both are ready."""
    system = System(model, DTYPE=dtype, THREADS=threads, API_REPLICAS="1", APPENDFSYNC=fsync)
    bare = BareEngine(model, dtype, threads)
    try:
        system.start()
        yield system, bare
    finally:
        bare.close()
        system.remove()


if __name__ == "__main__":
    main()
