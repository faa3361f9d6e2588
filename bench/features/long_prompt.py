"""Measures how a long prompt affects running streams, and how fast a chat's second turn starts.

    python -m bench.features.long_prompt --model DIR [--threads N] [--streams 16] [--prompt 6000] [--runs 3]

The engine runs alone in this process. First `--streams` streams run on their own, then a long prompt arrives while
they continue. The report shows the time between two tokens of a stream without the prompt and during its prefill,
and the prompt's time to first token. Then a chat of `--history` tokens is sent twice, the second time with its
answer and a few more words, so that the prefix cache can be used. All runs use one engine, after a warm-up run that
is not counted, because a virtual machine may be slow to provide memory that is used for the first time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.harness.spread import spread
from shared.domain.sampling import SamplingParams
from workers.engine.build import make_engine
from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.loading.loader import LoadedModel, load_model
from workers.engine.resolved_request import ResolvedRequest

#: How many tokens to measure the usual gap over.
_NUM_USUAL = 100
#: Length of a stream's prompt, and of what a chat's second turn adds.
_NUM_SHORT = 64
#: Maximum length of a stream.
_NUM_LONG = 4000
_OWNER = "bench"


@dataclass(frozen=True, slots=True)
class Gaps:
    """Seconds between two tokens of a stream."""

    p50: float
    p99: float

    @classmethod
    def of(cls, gaps: list[float]) -> Gaps:
        ranks = statistics.quantiles(gaps, n=100)
        return cls(ranks[49], ranks[98])


@dataclass(frozen=True, slots=True)
class Run:
    usual: Gaps
    beside: Gaps
    #: Seconds to the first token of the long prompt, and of a chat's first and second turn.
    long_first_s: float
    turn_first_s: tuple[float, float]


class Bench:
    """Sends requests to one engine. Sequences end only at their token limit."""

    def __init__(self, loaded: LoadedModel, config: EngineConfig) -> None:
        self._engine: Engine = make_engine(loaded, config)
        self._vocab_size: int = loaded.model.config.get_text_config().vocab_size
        self._generator = torch.Generator().manual_seed(0)

    def tokens(self, num: int) -> tuple[int, ...]:
        drawn = torch.randint(self._vocab_size, (num,), generator=self._generator)
        return tuple(drawn.tolist())

    @property
    def num_running(self) -> int:
        return self._engine.stats.running

    def abort(self, name: str) -> None:
        self._engine.abort(name)

    def add(self, name: str, prompt: tuple[int, ...], num_output: int) -> None:
        sampling = SamplingParams(max_tokens=num_output, seed=0, temperature=0)
        self._engine.add(name, ResolvedRequest((prompt,), sampling, (), "bench"), owner=_OWNER)

    def steps(self) -> Iterator[dict[str, tuple[int, ...]]]:
        """Yields the tokens of each step, by request."""
        while self._engine.has_work:
            yield {
                output.request_id: output.choices[0].token_ids or ()
                for output in self._engine.step()
                if output.choices
            }

    def until_first(self, name: str) -> tuple[float, list[float]]:
        """The seconds to a request's first token, and the duration of each step."""
        start = last = time.perf_counter()
        gaps = []
        for given in self.steps():
            now = time.perf_counter()
            gaps.append(now - last)
            last = now
            if name in given:
                break
        return last - start, gaps

    def answer(self, name: str, prompt: tuple[int, ...], num_output: int) -> tuple[float, tuple[int, ...]]:
        """Runs a request alone. Returns the seconds to its first token, and all its tokens."""
        start, first_s = time.perf_counter(), 0.0
        self.add(name, prompt, num_output)
        generated: tuple[int, ...] = ()
        for given in self.steps():
            generated += given.get(name, ())
            first_s = first_s or (time.perf_counter() - start if generated else 0.0)
        return first_s, generated


def run(bench: Bench, options: argparse.Namespace) -> Run:
    streams = [f"stream {index}" for index in range(options.streams)]
    for name in streams:
        bench.add(name, bench.tokens(_NUM_SHORT), _NUM_LONG)
    for name in streams:
        bench.until_first(name)
    usual = [bench.until_first(streams[0])[0] for _ in range(_NUM_USUAL)]
    bench.add("long", bench.tokens(options.prompt), 1)
    long_first_s, beside = bench.until_first("long")
    assert bench.num_running == len(streams), "the streams ended before the prompt was processed"
    for name in streams:
        bench.abort(name)
    return Run(Gaps.of(usual), Gaps.of(beside), long_first_s, turns(bench, options.history))


def turns(bench: Bench, num_history: int) -> tuple[float, float]:
    history = bench.tokens(num_history)
    first_s, answer = bench.answer("first", history, _NUM_SHORT)
    second_s, _ = bench.answer("second", history + answer + bench.tokens(_NUM_SHORT), 2)
    return first_s, second_s


def report(runs: list[Run], options: argparse.Namespace) -> None:
    def show(label: str, values: list[float], *, digits: int = 1) -> None:
        print(f"{label:62} {spread(values, digits)}", flush=True)

    print("                                                               min / median / max")
    for name in ("p50", "p99"):
        show(
            f"{options.streams} streams alone, gap {name}, ms",
            [1e3 * getattr(one.usual, name) for one in runs],
        )
        show(
            f"during the prefill of {options.prompt} tokens, ms",
            [1e3 * getattr(one.beside, name) for one in runs],
        )
    show("p99 relative to the usual gap", [one.beside.p99 / one.usual.p99 for one in runs], digits=2)
    show("p50 relative to the usual gap", [one.beside.p50 / one.usual.p50 for one in runs], digits=2)
    show("first token of the long prompt, s", [one.long_first_s for one in runs])
    show(
        f"first token of a chat with {options.history} tokens, s",
        [one.turn_first_s[0] for one in runs],
        digits=2,
    )
    show("first token of its next turn, s", [one.turn_first_s[1] for one in runs], digits=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=6000, help="length of the long prompt in tokens")
    parser.add_argument("--history", type=int, default=4000, help="length of the chat in tokens")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    config = EngineConfig(model=str(options.model), threads=options.threads)
    loaded = load_model(config)
    print(f"{options.model}, {loaded.model.dtype}, {torch.get_num_threads()} threads")
    bench = Bench(loaded, config)
    run(bench, options)
    report([run(bench, options) for _ in range(options.runs)], options)


if __name__ == "__main__":
    main()
