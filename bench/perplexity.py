"""Measures a model's perplexity on bench/perplexity.txt in each form in which the engine can run it.

Perplexity is the exponential of the mean negative log probability of each token after the first. All tokens go
through the engine's own forward pass, in chunks like a prompt.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers.utils import logging as transformers_logging

from shared.domain.sampling import SamplingParams
from workers.engine.config import DType, EngineConfig, Quant
from workers.engine.loading.loader import LoadedModel, load_model
from workers.engine.model.runner import ModelRunner
from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.plan import Plan, Row
from workers.engine.scheduling.sequence import Sequence

TEXT = Path(__file__).with_name("perplexity.txt")
_CHUNK = 128


@dataclass(frozen=True, slots=True)
class Form:
    """A model with a data type and quantization."""

    name: str
    model: Path
    dtype: DType
    quant: Quant = "none"


def perplexity(loaded: LoadedModel, text: str) -> tuple[float, int]:
    """The text's perplexity, and the number of tokens that it is based on. The text must fit in the context."""
    token_ids = loaded.tokenizer(text, add_special_tokens=False).input_ids
    assert len(token_ids) <= loaded.max_model_len
    sampling = SamplingParams(max_tokens=1, seed=0)
    sequence = Sequence("perplexity", 0, sampling, token_ids, num_prompt_tokens=len(token_ids))
    runner = ModelRunner(loaded.model, KVBudget(len(token_ids)))
    surprise = 0.0
    for start in range(0, len(token_ids) - 1, _CHUNK):
        end = min(start + _CHUNK, len(token_ids) - 1)
        logits = runner.run(Plan((Row(sequence, 0, start, end - start),), wants_all=True))
        following = torch.tensor(token_ids[start + 1 : end + 1])
        surprise += torch.nn.functional.cross_entropy(logits.double(), following, reduction="sum").item()
    return math.exp(surprise / (len(token_ids) - 1)), len(token_ids) - 1


def measure(form: Form, text: str) -> tuple[float, int]:
    config = EngineConfig(str(form.model), dtype=form.dtype, quant=form.quant)
    return perplexity(load_model(config), text)


def forms(model: Path, gguf: Path | None) -> list[Form]:
    """All forms. The first is the reference."""
    own = [
        Form("float32", model, "float32"),
        Form("bfloat16", model, "bfloat16"),
        Form("float32, int8", model, "float32", "int8"),
        Form("bfloat16, int8", model, "bfloat16", "int8"),
    ]
    return own if gguf is None else [*own, Form(f"bfloat16, {gguf.name}", gguf, "bfloat16")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="model directory")
    parser.add_argument("--gguf", type=Path, help="a GGUF file of the same model")
    options = parser.parse_args()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    text = TEXT.read_text(encoding="utf-8")
    reference: float | None = None
    print(f"| form of {options.model.name} | perplexity | relative to float32 | tokens |\n|---|---|---|---|")
    for form in forms(options.model, options.gguf):
        found, num_tokens = measure(form, text)
        reference = reference or found
        print(f"| {form.name} | {found:.3f} | {found / reference:.4f} | {num_tokens} |", flush=True)


if __name__ == "__main__":
    main()
