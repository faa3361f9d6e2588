"""Compares the engine's decode speed on a GPU, with and without CUDA graphs, with transformers.

    python -m bench.gpu [--model DIR] [--rows 1 8 32 128] [--output 128] [--runs 3]

The rivals are `generate` with a StaticCache and SDPA, uncompiled, and transformers' continuous batching. All decode
the same rows greedily, in one process and in rotating order. Decoding is timed from the moment when every row has
its first token. Each time is taken after the GPU has finished the step.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import (
    ContinuousBatchingConfig,
    PreTrainedModel,
    StoppingCriteriaList,
)
from transformers.utils import logging as transformers_logging

from bench.engine import (
    Contestant,
    Speed,
    StepClock,
    Times,
    TokenOutput,
    greedy,
    read_model,
    serve,
    speed_of,
)
from bench.harness.spread import spread
from workers.engine.engine import Engine
from workers.engine.loading.loader import prepare_model
from workers.engine.model.kv_form import make_budget
from workers.engine.model.runner import ModelRunner
from workers.engine.sampling.sampler import Sampler
from workers.engine.scheduling.scheduler import Scheduler

NUM_PROMPT = 64
#: Maximum tokens per step: a GPU processes many prompts at once.
STEP_TOKENS = 2048
MakeModel = Callable[[], PreTrainedModel]


def contestants(make_model: MakeModel, max_rows: int, num_output: int) -> dict[str, Contestant]:
    theirs, ours = make_model(), make_model()
    prepare_model(ours, kv_form="pages")
    return {
        "baton": baton(ours, max_rows, num_output, with_graphs=True),
        "baton, no graphs": baton(ours, max_rows, num_output, with_graphs=False),
        "generate": static_generate(theirs),
        "continuous batching": continuous_batching(theirs),
    }


def baton(model: PreTrainedModel, max_rows: int, num_output: int, *, with_graphs: bool) -> Contestant:
    """`model` must be prepared."""
    budget = make_budget(model, NUM_PROMPT + num_output)
    budget = make_budget(model, budget.max_len, max_rows * budget.charge(budget.max_len))
    runner = ModelRunner(model, budget)
    if with_graphs and not runner.record_decoding(max_rows):
        print(
            f"{type(model).__name__} decodes without CUDA graphs: both rows of Baton measure the same thing"
        )

    def run(prompts: list[list[int]], num_output: int) -> Times:
        scheduler = Scheduler(
            max_slots=max_rows, prefill_chunk=STEP_TOKENS, max_step_tokens=STEP_TOKENS, kv_budget=budget
        )
        engine = Engine(runner, scheduler, Sampler(), TokenOutput, budget)
        return serve(engine, prompts, num_output)

    return run


def static_generate(model: PreTrainedModel) -> Contestant:
    def run(prompts: list[list[int]], num_output: int) -> Times:
        clock = StepClock()
        input_ids = torch.tensor(prompts, device=model.device)
        model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            generation_config=greedy(num_output, cache_implementation="static", disable_compile=True),
            stopping_criteria=StoppingCriteriaList([clock]),
        )
        return [clock.times] * len(prompts)

    return run


def continuous_batching(model: PreTrainedModel) -> Contestant:
    def run(prompts: list[list[int]], num_output: int) -> Times:
        config = ContinuousBatchingConfig(num_blocks=2 * len(prompts) + 2, max_batch_tokens=STEP_TOKENS)
        outputs = model.generate_batch(
            prompts,
            generation_config=greedy(num_output),
            continuous_batching_config=config,
            record_timestamps=True,
            max_new_tokens=num_output,
        )
        return [output.timestamps for output in outputs.values()]

    return run


def measure(
    runs: dict[str, Contestant], num_rows: int, num_output: int, num_runs: int, vocab_size: int
) -> dict[str, list[Speed]]:
    """Runs one warm-up round that is not counted, and then `num_runs` rounds in rotating order."""
    generator = torch.Generator().manual_seed(num_rows)
    prompts = torch.randint(vocab_size, (num_rows, NUM_PROMPT), generator=generator).tolist()
    speeds: dict[str, list[Speed]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(num_runs + 1):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            start, cpu_start = time.perf_counter(), time.process_time()
            times = runs[name](prompts, num_output)
            if number:
                speeds[name].append(speed_of(times, start, time.process_time() - cpu_start))
    return speeds


def table(num_rows: int, speeds: dict[str, list[Speed]]) -> list[str]:
    decode, whole = (
        {name: [getattr(run, part) for run in runs] for name, runs in speeds.items()}
        for part in ("decode", "whole")
    )
    baton = statistics.median(decode["baton"])
    return [
        f"{num_rows:4}  {name:20}  {spread(decode[name], 0):>21}  {spread(whole[name], 0):>21}"
        f"  {statistics.median(decode[name]) / baton:.2f}"
        for name in speeds
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--model", type=Path, help="model directory; default: a random model of SmolLM2-135M's shape"
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--output", type=int, default=128, help="output tokens of each row, up to 448")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.stderr.write("bench.gpu: no CUDA device found; it needs one, and a CUDA build of torch\n")
        return 1
    transformers_logging.set_verbosity_error()
    device = torch.device("cuda")

    def make_model() -> PreTrainedModel:
        return read_model(options.model, torch.bfloat16).to(device)

    runs = contestants(make_model, max(options.rows), options.output)
    vocab_size = make_model().config.get_text_config().vocab_size
    print(f"{options.model or 'random 135M'}, bfloat16, {torch.cuda.get_device_name(device)}")
    print("rows, tokens per second min / median / max: decode; with prefill; decode relative to Baton")
    for num_rows in options.rows:
        for line in table(num_rows, measure(runs, num_rows, options.output, options.runs, vocab_size)):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
