"""Compares the time to sample one step's tokens with sampling by a full sort of the vocabulary.

    python -m bench.sampler [--rounds N] [--threads N]

Both sample from the same logits in turn, in one process, so other load on the machine affects them equally. Times are
CPU times of all threads, which other programs disturb less than wall-clock time. The ratio is sort / ours of each
turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from shared.domain.sampling import SamplingParams
from workers.engine.sampling.logit_adjustments import LogitAdjustments
from workers.engine.sampling.native_draw import draw_natively
from workers.engine.sampling.row import SampleRow
from workers.engine.sampling.sampler import Sampler
from workers.native.ops import native_library

#: Rows and vocabulary size: SmolLM2 and Llama 3.
SHAPES = ((32, 49152), (64, 128256))
NUM_PROMPT, NUM_OUTPUT = 400, 200


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    params: dict[str, Any] = field(default_factory=dict)
    #: Standard deviation of the logits: 6 for a confident model, 3 for an unsure one.
    spread: float = 6.0

    def rows(self, num_rows: int, num_tokens: int) -> list[SampleRow]:
        tokens = torch.randint(num_tokens, (num_rows, NUM_PROMPT + NUM_OUTPUT)).tolist()
        rows = []
        for seed, held in enumerate(tokens):
            sampling = SamplingParams(**{"max_tokens": 999, "seed": seed, **self.params})
            prompt, output = held[:NUM_PROMPT], held[NUM_PROMPT:]
            rows.append(SampleRow(sampling, 0, NUM_OUTPUT, LogitAdjustments.of(sampling, (), prompt, output)))
        return rows


_PENALTIES = {"repetition_penalty": 1.1, "presence_penalty": 0.5, "frequency_penalty": 0.5}
CASES = (
    Case("greedy", {"temperature": 0.0}),
    Case("temperature", {"temperature": 0.8}),
    Case("min_p", {"min_p": 0.05}),
    Case("top_p", {"top_p": 0.9}),
    Case("top_p, unsure", {"top_p": 0.9}, 3.0),
    Case("top_p, nearly flat", {"top_p": 0.95, "temperature": 2.0}, 2.0),
    Case("top_k + top_p", {"top_k": 50, "top_p": 0.9}),
    Case("greedy + penalties", {"temperature": 0.0, **_PENALTIES}),
    Case("top_p + penalties", {"top_p": 0.9, **_PENALTIES}),
    Case("greedy + 20 logprobs", {"temperature": 0.0, "logprobs": 20}),
    Case("all of it", {"top_k": 50, "top_p": 0.9, "logprobs": 5, **_PENALTIES}),
)


def by_sort(logits: Tensor, sampling: SamplingParams, seen: Tensor) -> Tensor:
    """Samples with shared parameters in the straightforward way: by counting and sorting all tokens."""
    if sampling.logprobs is not None:
        logits.log_softmax(-1).topk(max(1, sampling.logprobs), -1)
    if sampling.repetition_penalty != 1:
        counts = torch.zeros_like(logits).scatter_add_(1, seen, torch.ones_like(seen, dtype=logits.dtype))
        penalised = torch.where(logits > 0, logits / sampling.repetition_penalty, logits * 1.1)
        logits = torch.where(counts > 0, penalised, logits)
        logits = logits - sampling.frequency_penalty * counts - sampling.presence_penalty * (counts > 0)
    if sampling.is_greedy:
        return logits.argmax(-1)
    ranked, ids = (logits / sampling.temperature).sort(-1, descending=True)
    weights = ranked.softmax(-1)
    weights[weights < sampling.min_p * weights[:, :1]] = 0
    weights[:, sampling.top_k or weights.shape[-1] :] = 0
    weights /= weights.sum(-1, keepdim=True)
    weights[weights.cumsum(-1) - weights >= sampling.top_p] = 0
    return ids.gather(1, torch.multinomial(weights, 1))[:, 0]


def measure(contestants: list[Callable[[], object]], rounds: int) -> list[list[float]]:
    """CPU time in ms of each contestant in each round, after one warm-up round."""
    times: list[list[float]] = [[] for _ in contestants]
    for _ in range(rounds + 1):
        for contestant, taken in zip(contestants, times, strict=True):
            start = time.process_time()
            contestant()
            taken.append((time.process_time() - start) * 1e3)
    return [taken[1:] for taken in times]


def report(case: Case, num_rows: int, num_tokens: int, rounds: int) -> str:
    torch.manual_seed(0)
    logits = torch.randn(num_rows, num_tokens) * case.spread
    rows = case.rows(num_rows, num_tokens)
    seen = torch.randint(num_tokens, (num_rows, NUM_PROMPT + NUM_OUTPUT))
    sampler = Sampler(draw_natively) if native_library() else Sampler()
    ours, sort = measure(
        [lambda: sampler.sample(logits, rows), lambda: by_sort(logits, rows[0].sampling, seen)], rounds
    )
    ratios = sorted(theirs / mine for mine, theirs in zip(ours, sort, strict=True))
    medians = f"{statistics.median(ours):9.2f} {statistics.median(sort):9.2f}"
    return f"{case.name:22s}{medians}   {ratios[0]:6.1f} {statistics.median(ratios):6.1f} {ratios[-1]:6.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for num_rows, num_tokens in SHAPES:
        print(f"\n{num_rows} rows of {num_tokens} tokens, {arguments.threads} threads")
        print(f"{'CPU ms per step':22s}{'ours':>9s} {'by sort':>9s}   sort / ours: min, median, max")
        for case in CASES:
            print(report(case, num_rows, num_tokens, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
