"""Defines how much is measured with each set of weights by default, so that all take about half an hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.peers.lineup import RIVALS, Rival


@dataclass(frozen=True, slots=True)
class Scope:
    #: In seconds. A round that would take longer skips the slowest contestants (see Rounds).
    budget_s: float
    rivals: Sequence[Rival] = RIVALS
    runs: int = 3
    output_tokens: int = 128
    #: Settings of further variants of Baton.
    variants: Sequence[Mapping[str, str]] = ()


#: By set. `model` is a directory given by the user.
SCOPES: Mapping[str, Scope] = {
    "random": Scope(budget_s=800, variants=({"quant": "int8"},)),
    "smollm2": Scope(budget_s=800, rivals=("llama.cpp", "vllm", "transformers")),
    "random-1b": Scope(budget_s=400, rivals=("llama.cpp", "vllm"), runs=2, output_tokens=32),
    "model": Scope(budget_s=800, rivals=("vllm", "transformers")),
}
