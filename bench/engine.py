"""Compares the engine's decode speed with transformers: continuous batching, and `generate` on one batch.

    python -m bench.engine [--model DIR] [--threads N] [--rows 1 8 32] [--output 48] [--runs 3]

All three decode the same rows greedily, in one process and in rotating order, so other load on the machine affects
them equally. Decoding is timed from the moment when every row has its first token. On a shared machine, tokens per
second of CPU time (of all threads) are more meaningful than tokens per second of wall-clock time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    ContinuousBatchingConfig,
    GenerationConfig,
    LlamaConfig,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.utils import logging as transformers_logging

from bench.harness.random_llama import random_llama
from shared.domain.output import ChoiceOutput, Finish
from shared.domain.prompt_logprobs import PromptToken
from shared.domain.sampling import SamplingParams
from shared.host.cores import available_cores
from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.loading.loader import prepare_model, resolve_dtype
from workers.engine.loading.threads import use_threads
from workers.engine.model.runner import ModelRunner
from workers.engine.resolved_request import ResolvedRequest
from workers.engine.sampling.logprobs import Scores
from workers.engine.sampling.sampler import Sampler
from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.scheduler import Scheduler

NUM_PROMPT = 64

#: For each row, when each of its tokens was ready (seconds of time.perf_counter).
Times = list[list[float]]
Contestant = Callable[[list[list[int]], int], Times]


@dataclass(frozen=True, slots=True)
class Speed:
    #: Output tokens per second once every row has its first token.
    decode: float
    #: Output tokens per second from the start, including prefill.
    whole: float
    #: Output tokens per second of this process's CPU time, including prefill.
    cpu: float


def speed_of(times: Times, start: float, cpu_s: float) -> Speed:
    first, last = max(row[0] for row in times), max(row[-1] for row in times)
    decoded = sum(moment > first for row in times for moment in row)
    tokens = sum(map(len, times))
    return Speed(decoded / (last - first), tokens / (last - start), tokens / cpu_s)


def random_model() -> PreTrainedModel:
    """A Llama with the shape of SmolLM2-135M and random weights."""
    return random_llama(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
    )


def read_model(directory: Path | None, dtype: torch.dtype) -> PreTrainedModel:
    if directory is None:
        return random_model().to(dtype)
    return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()


class TokenOutput:
    """Replaces OutputBuilder, because a random model has no tokenizer."""

    def __init__(self, request: ResolvedRequest, choice: int) -> None:
        self._choice = choice
        self._max_tokens = request.sampling.max_tokens
        self._position = 0

    def read_prompt(self, tokens: list[PromptToken]) -> None:
        """Not needed here."""

    def push(
        self,
        token_id: int,
        scores: Scores | None = None,  # noqa: ARG002
        *,
        is_complete: bool = False,  # noqa: ARG002
    ) -> ChoiceOutput:
        self._position += 1
        finish = Finish("length") if self._position == self._max_tokens else None
        return ChoiceOutput(self._choice, self._position - 1, (token_id,), ("",), finish)

    def replay(self, so_far: ChoiceOutput, *, is_complete: bool = False) -> None:  # noqa: ARG002
        self._position = so_far.end


def serve(engine: Engine, prompts: list[list[int]], num_output: int) -> Times:
    """Runs all prompts at once, greedily. Reading the tokens on the CPU waits for the GPU, if there is one."""
    sampling = SamplingParams(max_tokens=num_output, seed=0, temperature=0)
    for index, prompt in enumerate(prompts):
        engine.add(str(index), ResolvedRequest((tuple(prompt),), sampling, (), "bench"))
    times: Times = [[] for _ in prompts]
    while engine.has_work:
        outputs = engine.step()
        now = time.perf_counter()
        for output in outputs:
            times[int(output.request_id)] += [now] * len(output.choices[0].texts)
    return times


def baton(model: PreTrainedModel) -> Contestant:
    threads = torch.get_num_threads()
    use_threads(EngineConfig(model="", threads=threads), model.device, model.dtype)
    own_threads = torch.get_num_threads()
    prepare_model(model)
    torch.set_num_threads(threads)

    def run(prompts: list[list[int]], num_output: int) -> Times:
        torch.set_num_threads(own_threads)
        budget = KVBudget(2048)
        engine = Engine(
            ModelRunner(model, budget),
            Scheduler(max_slots=32, prefill_chunk=128, max_step_tokens=256),
            Sampler(),
            TokenOutput,
            budget,
        )
        try:
            return serve(engine, prompts, num_output)
        finally:
            torch.set_num_threads(threads)

    return run


def continuous_batching(model: PreTrainedModel) -> Contestant:
    def run(prompts: list[list[int]], num_output: int) -> Times:
        outputs = model.generate_batch(
            prompts,
            generation_config=greedy(num_output),
            continuous_batching_config=ContinuousBatchingConfig(
                num_blocks=4 * len(prompts), max_batch_tokens=max(256, NUM_PROMPT * len(prompts))
            ),
            record_timestamps=True,
            max_new_tokens=num_output,
        )
        return [output.timestamps for output in outputs.values()]

    return run


class StepClock(StoppingCriteria):  # type: ignore[misc]  # transformers is untyped
    """Records when each step is complete, also on a GPU. Never stops the generation."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: torch.Tensor, _scores: object, **_kwargs: object) -> torch.Tensor:
        input_ids[-1, -1].item()
        self.times.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def padded_generate(model: PreTrainedModel) -> Contestant:
    def run(prompts: list[list[int]], num_output: int) -> Times:
        clock = StepClock()
        input_ids = torch.tensor(prompts)
        model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            generation_config=greedy(num_output),
            stopping_criteria=StoppingCriteriaList([clock]),
        )
        return [clock.times] * len(prompts)

    return run


def greedy(num_output: int, **options: object) -> GenerationConfig:
    """Generates exactly this many tokens."""
    return GenerationConfig(
        max_new_tokens=num_output, do_sample=False, eos_token_id=-1, pad_token_id=0, **options
    )


def measure(contestants: dict[str, Contestant], num_rows: int, num_output: int, num_runs: int) -> None:
    generator = torch.Generator().manual_seed(num_rows)
    prompts = torch.randint(1000, 40_000, (num_rows, NUM_PROMPT), generator=generator).tolist()
    speeds: dict[str, list[Speed]] = {name: [] for name in contestants}
    names = list(contestants)
    for number in range(num_runs):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            start, cpu_start = time.perf_counter(), time.process_time()
            times = contestants[name](prompts, num_output)
            speeds[name].append(speed_of(times, start, time.process_time() - cpu_start))
    report(num_rows, speeds)


def report(num_rows: int, speeds: dict[str, list[Speed]]) -> None:
    for name, runs in speeds.items():
        decode, whole, cpu = (
            sorted(getattr(run, part) for run in runs) for part in ("decode", "whole", "cpu")
        )
        spread = f"{decode[0]:7.1f} {statistics.median(decode):7.1f} {decode[-1]:7.1f}"
        print(
            f"{num_rows:4} {name:20} {spread} {statistics.median(whole):9.1f} {statistics.median(cpu):9.1f}",
            flush=True,
        )
    ratios = "  ".join(f"{part} {ratio_to_better(speeds, part):.2f}" for part in ("decode", "whole", "cpu"))
    print(f"{num_rows:4} baton relative to the better of both: {ratios}", flush=True)


def ratio_to_better(speeds: dict[str, list[Speed]], part: str) -> float:
    medians = {name: statistics.median(getattr(run, part) for run in runs) for name, runs in speeds.items()}
    rival = max(speed for name, speed in medians.items() if name != "baton")
    ratio: float = medians["baton"] / rival
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--model", type=Path, help="model directory; default: a random model of SmolLM2-135M's shape"
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--output", type=int, default=48, help="output tokens of each row")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    transformers_logging.set_verbosity_error()
    torch.set_num_threads(options.threads)
    dtype = resolve_dtype(options.dtype, torch.device("cpu"), LlamaConfig())
    theirs = read_model(options.model, dtype)
    contestants = {
        "baton": baton(read_model(options.model, dtype)),
        "continuous batching": continuous_batching(theirs),
        "generate": padded_generate(theirs),
    }
    print(f"{options.model or 'random 135M'}, {dtype}, {options.threads} threads")
    print("tokens per second:            decode min  median  max  with prompts  per CPU s")
    for num_rows in options.rows:
        measure(contestants, num_rows, options.output, options.runs)


if __name__ == "__main__":
    main()
