"""Compares decode steps with and without int8 linear layers by wall-clock time.

Each round runs one step of each kind in turn. Ratios compare the two times of one round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from bench.harness.random_llama import random_llama
from shared.domain.sampling import SamplingParams
from workers.engine.config import EngineConfig, Quant
from workers.engine.linear.int8 import WrongProduct
from workers.engine.loading.loader import prepare_model, resolve_dtype
from workers.engine.loading.threads import use_threads
from workers.engine.model.runner import ModelRunner
from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.plan import Plan, Row
from workers.engine.scheduling.sequence import Sequence
from workers.native.ops import compute_threads

#: Number of tokens in each row's cache.
NUM_CACHED = 128


def random_model(hidden: int, layers: int) -> PreTrainedModel:
    """A Llama with random weights, a head size of 64 and a feed-forward size of four times the hidden size."""
    return random_llama(
        vocab_size=32_000,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 64,
    )


class Steps:
    """Runs steps in which `num_rows` sequences decode one token each."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._runner = ModelRunner(model, KVBudget(NUM_CACHED))
        token_ids = list(range(1, NUM_CACHED + 1))
        sampling = SamplingParams(max_tokens=1, seed=0)
        self._sequence = Sequence("bench", 0, sampling, token_ids, num_prompt_tokens=NUM_CACHED)

    def wall_s(self, num_rows: int) -> float:
        rows = tuple(Row(self._sequence, slot, NUM_CACHED - 1, 1) for slot in range(num_rows))
        start = time.perf_counter()
        self._runner.run(Plan(rows))
        return time.perf_counter() - start


def measure(contestants: dict[Quant, Steps], num_rows: int, num_rounds: int) -> None:
    rounds = [
        {name: steps.wall_s(num_rows) for name, steps in contestants.items()} for _ in range(num_rounds)
    ]
    ratios = [times["none"] / times["int8"] for times in rounds[1:]]
    none, int8 = (_spread([1000 * times[name] for times in rounds[1:]]) for name in ("none", "int8"))
    print(f"{num_rows:4} rows: none {none} ms, int8 {int8} ms; none / int8 {_spread(ratios)}", flush=True)


def _spread(values: list[float]) -> str:
    return f"{min(values):.2f} {statistics.median(values):.2f} {max(values):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, help="model directory; default: a random Llama")
    parser.add_argument("--hidden", type=int, default=768, help="hidden size of the random Llama")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 8, 32])
    parser.add_argument("--threads", type=int, help="default: same as a worker")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    transformers_logging.set_verbosity_error()
    dtype = resolve_dtype("auto", torch.device("cpu"), LlamaConfig())
    contestants: dict[Quant, Steps] = {}
    quants: tuple[Quant, ...] = ("none", "int8")
    for quant in quants:
        use_threads(EngineConfig("", quant=quant, threads=options.threads), torch.device("cpu"), dtype)
        if options.model is None:
            model = random_model(options.hidden, options.layers).to(dtype)
        else:
            model = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype).eval()
        try:
            exactness = prepare_model(model, quant)
        except WrongProduct as error:
            return print(error)
        contestants[quant] = Steps(model)
        name = options.model or f"random Llama, {options.layers} layers of {options.hidden}"
        print(f"{name}, {dtype}, {quant}, exact: {exactness.is_exact}")
    print(f"Time of a step on {compute_threads()} threads, and ratios within a round: min, median, max")
    for num_rows in options.rows:
        measure(contestants, num_rows, options.rounds)


if __name__ == "__main__":
    main()
