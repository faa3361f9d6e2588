"""Compares an engine with speculative decoding with one without, on the same requests.

    python -m bench.features.speculation [--model DIR] [--threads N] [--rows 1 8 32] [--tokens 96] [--rounds 5]

The workloads are repetitive texts (passages to copy, JSON and code to rewrite), chats with the sampling that the
model's authors recommend, and random prompts at temperature 1, where guesses cannot succeed. The engines take turns
in one process, and each round starts with different prompts. The result is the ratio of their tokens per second, by
wall-clock time and by the CPU time of the process, while all rows decode: from the end of the last prefill until the
first answer ends. The answers must be equal. A warm-up round, which records the shapes of steps, is not counted.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path

from bench.harness.spread import spread
from shared.domain.sampling import SamplingParams
from workers.engine.build import make_engine
from workers.engine.config import EngineConfig, Speculation
from workers.engine.engine import Engine
from workers.engine.loading.loader import LoadedModel, load_model
from workers.engine.resolved_request import ResolvedRequest

_PASSAGES = Path(__file__).parents[1].joinpath("perplexity.txt").read_text(encoding="utf-8").split("\n\n")
_ORDERS = [
    {"id": 1017 + number, "customer": name, "city": city, "items": ["lamp", "desk"], "paid": number % 2 == 0}
    for number, (name, city) in enumerate([("Anna", "Lund"), ("Tom", "York"), ("Mia", "Turin")])
]
_CODE = """def mean(values):
    total = 0
    for value in values:
        total += value
    return total / len(values)


def variance(values):
    center = mean(values)
    total = 0
    for value in values:
        total += (value - center) ** 2
    return total / len(values)
"""
_REPEATING = [
    *(f"Repeat the following text word for word:\n\n{passage}" for passage in _PASSAGES[:10]),
    f"Write this JSON again, exactly as it is:\n\n{json.dumps(_ORDERS, indent=1)}",
    f"Rename `total` to `result` in this code and answer with the whole code:\n\n```python\n{_CODE}```",
]
_CHATS = [
    "Why is the sky blue?",
    "Write a short story about a lighthouse keeper who finds a letter.",
    "What is the difference between a virus and a bacterium?",
    "Give me three ideas for a birthday party in the garden.",
    "Explain how a bicycle stays upright.",
    "Who was Ada Lovelace, and why is she remembered?",
    "How do I make a good cup of coffee at home?",
    "Write a poem about rain in the city.",
]


@dataclass(frozen=True, slots=True)
class Work:
    """Prompts, and the sampling of their answers."""

    name: str
    prompts: list[tuple[int, ...]]
    temperature: float
    top_p: float = 1.0


@dataclass(frozen=True, slots=True)
class Run:
    """Tokens per second while all rows decode, and the answers."""

    by_clock: float
    by_cpu: float
    answers: dict[str, list[int]]


def works(loaded: LoadedModel) -> list[Work]:
    def chats(texts: list[str]) -> list[tuple[int, ...]]:
        return [_as_chat(loaded, text) for text in texts]

    chance, vocabulary = random.Random(1), range(len(loaded.tokenizer) // 4, len(loaded.tokenizer) // 2)
    noise = [tuple(chance.choices(vocabulary, k=64)) for _ in range(16)]
    return [
        Work("repeating", chats(_REPEATING), 0.0),
        Work("chat", chats(_CHATS), 0.2, 0.9),
        Work("random", noise, 1.0),
    ]


def _as_chat(loaded: LoadedModel, text: str) -> tuple[int, ...]:
    message = {"role": "user", "content": text}
    rendered = loaded.tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    return tuple(loaded.tokenizer(rendered, add_special_tokens=False).input_ids)


def requests(work: Work, num_rows: int, first: int, options: argparse.Namespace) -> list[ResolvedRequest]:
    """One request per row, starting with prompt `first`."""
    return [
        ResolvedRequest(
            (work.prompts[(first + row) % len(work.prompts)],),
            SamplingParams(
                max_tokens=options.tokens, seed=row, temperature=work.temperature, top_p=work.top_p
            ),
            (options.stop,),
            "bench",
        )
        for row in range(num_rows)
    ]


def run(engine: Engine, batch: list[ResolvedRequest]) -> Run:
    for row, request in enumerate(batch):
        engine.add(str(row), request, owner="bench")  # with an owner, prompts are cached
    answers: dict[str, list[int]] = {str(row): [] for row in range(len(batch))}
    by_clock = by_cpu = 0.0
    num_before, clock, cpu = 0, 0.0, 0.0
    while engine.has_work:
        outputs = engine.step()
        for output in outputs:
            answers[output.request_id] += [
                token for choice in output.choices for token in choice.token_ids or ()
            ]
        has_ended = any(output.is_last for output in outputs)
        if not num_before and all(answers.values()) and not has_ended:
            num_before, clock, cpu = engine.stats.generated_tokens, time.perf_counter(), time.process_time()
        elif num_before and not by_clock and has_ended:
            num_drawn = engine.stats.generated_tokens - num_before
            by_clock = num_drawn / (time.perf_counter() - clock)
            by_cpu = num_drawn / (time.process_time() - cpu)
    assert by_clock, "an answer ended before all had started"
    return Run(by_clock, by_cpu, answers)


def compare(
    engines: dict[Speculation, Engine], work: Work, num_rows: int, options: argparse.Namespace
) -> None:
    for engine in engines.values():
        run(engine, requests(work, num_rows, 0, options))
    before = engines["auto"].stats
    by_clock, by_cpu = [], []
    for number in range(options.rounds):
        batch = requests(work, num_rows, number * num_rows, options)
        runs = {kind: run(engines[kind], batch) for kind in sorted(engines, reverse=bool(number % 2))}
        assert runs["auto"].answers == runs["off"].answers, "speculation changed an answer"
        by_clock.append(runs["auto"].by_clock / runs["off"].by_clock)
        by_cpu.append(runs["auto"].by_cpu / runs["off"].by_cpu)
    after = engines["auto"].stats
    print(
        f"{num_rows:2} rows, {work.name:9}: clock {spread(by_clock)}, CPU {spread(by_cpu)};",
        f"{after.accepted_tokens - before.accepted_tokens} of {after.drafted_tokens - before.drafted_tokens}",
        f"guesses accepted, {after.generated_tokens - before.generated_tokens} tokens generated",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default=".baton/models/SmolLM2-135M-Instruct")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--tokens", type=int, default=96, help="maximum tokens of each answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--works", nargs="+", default=["repeating", "chat", "random"])
    options = parser.parse_args()
    config = EngineConfig(options.model, threads=options.threads, max_kv_tokens=64 * 1024)
    loaded = load_model(config)
    options.stop = loaded.tokenizer.eos_token_id
    engines: dict[Speculation, Engine] = {
        "auto": make_engine(loaded, config),
        "off": make_engine(loaded, replace(config, speculation="off")),
    }
    print("tokens per second with speculation relative to without: minimum / median / maximum")
    for num_rows in options.rows:
        for work in works(loaded):
            if work.name in options.works:
                compare(engines, work, num_rows, options)


if __name__ == "__main__":
    main()
