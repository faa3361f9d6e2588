"""Computes an upper bound of tokens per second from this machine's memory bandwidth and arithmetic (roofline model).

A decode step reads all weights once and the keys and values of each row, and multiplies each row by all weights. It
takes at least as long as the slower of the two (Williams, Waterman and Patterson, 2009). The rates are the best that
torch reaches here, measured next to the contestants. A program with better kernels may exceed the bound a little, and
one with weights of fewer bits by far.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from bench.peers.figures import Bound

#: Larger than a CPU's caches.
_READ_BYTES = 256 << 20
#: Outputs and inputs of typical layers.
_SHAPES = ((8192, 2048), (2048, 2048))
_MANY_ROWS = 512
_TRIES = 5
_BYTES = 2  # bfloat16


@dataclass(frozen=True, slots=True)
class Rates:
    """The rates that a number of threads reaches."""

    threads: int
    bytes_per_s: float
    flop_per_s: float

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{threads}, {self.bytes_per_s / 1e9:.0f} GB/s, {self.flop_per_s / 1e9:.0f} GFLOP/s"


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a model in bfloat16."""

    #: Number of weights that each token is multiplied by. The head is needed only for logits.
    body: int
    head: int
    #: Size of a token's keys and values in all layers.
    kv_bytes: int

    @classmethod
    def of(cls, directory: Path) -> Cost:
        """Reads only the configuration."""
        config = AutoConfig.from_pretrained(directory)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        head = model.get_output_embeddings().weight
        outer = {head, model.get_input_embeddings().weight}
        body = sum(weight.numel() for weight in model.parameters() if weight not in outer)
        text = config.get_text_config()
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        width = text.num_hidden_layers * text.num_key_value_heads * head_dim
        return cls(body, head.numel(), 2 * width * _BYTES)

    def tokens_per_s(self, rates: Rates, streams: int, num_prompt: int, num_output: int) -> float:
        """The bound for this many concurrent streams: prefill of all prompts, then joint decoding."""
        weights, kept = self.body + self.head, streams * self.kv_bytes * (num_prompt + num_output / 2)
        step_s = _seconds(rates, weights, streams) + kept / rates.bytes_per_s
        prompt_s = _seconds(rates, self.body, streams * num_prompt)
        return streams * num_output / (prompt_s + (num_output - 1) * step_s)


def _seconds(rates: Rates, weights: int, rows: int) -> float:
    return max(_BYTES * weights / rates.bytes_per_s, 2 * rows * weights / rates.flop_per_s)


def bounds(
    directory: Path, threads: Sequence[int], streams: Sequence[int], num_prompt: int, num_output: int
) -> tuple[Bound, ...]:
    """A bound for each number of threads; empty if torch has no native bfloat16 on this CPU."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return ()
    cost, found = Cost.of(directory), []
    for rates in map(measure_rates, threads):
        figures = {num: cost.tokens_per_s(rates, num, num_prompt, num_output) for num in streams}
        found.append(Bound(str(rates), figures))
    return tuple(found)


@torch.inference_mode()
def measure_rates(threads: int) -> Rates:
    """The best of several methods and tries. Takes a few seconds."""
    with _threads(threads):
        numbers = torch.ones(_READ_BYTES // 4)
        bytes_per_s, flop_per_s = [_READ_BYTES / _fastest_s(numbers.amax)], []
        for shape in _SHAPES:
            weight = torch.randn(shape, dtype=torch.bfloat16)
            size = weight.numel() * _BYTES
            layers = [_packed(weight) for _ in range(max(1, _READ_BYTES // size))]
            bytes_per_s.append(len(layers) * size / _fastest_s(_product(1, shape[1], layers)))
            flops = 2 * _MANY_ROWS * weight.numel()
            flop_per_s.append(flops / _fastest_s(_product(_MANY_ROWS, shape[1], layers[:1])))
    return Rates(threads, max(bytes_per_s), max(flop_per_s))


def _packed(weight: torch.Tensor) -> torch.Tensor:
    packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, _MANY_ROWS)
    return packed


def _product(num_rows: int, num_in: int, layers: Sequence[torch.Tensor]) -> Callable[[], None]:
    """Returns a function that multiplies the same rows by each layer."""
    rows = torch.randn(num_rows, num_in, dtype=torch.bfloat16)

    def run() -> None:
        for layer in layers:
            torch.ops.mkldnn._linear_pointwise(rows, layer, None, "none", [], "")

    return run


def _fastest_s(run: Callable[[], object]) -> float:
    """The fastest of several tries, after one warm-up."""
    run()
    times = []
    for _ in range(_TRIES):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
