from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from shared.sampling import SamplingParams
from tests.models import tiny_model
from workers.engine.attention import use_slot_attention
from workers.engine.kv_budget import KVBudget
from workers.engine.loader import prepare_model
from workers.engine.model_runner import ModelRunner
from workers.engine.scheduler import Plan, Row
from workers.engine.sequence import Sequence
from workers.engine.tape import use_tape


def logits(model: PreTrainedModel) -> list[torch.Tensor]:
    """Of two prompts, and of a token of one beside a chunk of the other."""
    runner = ModelRunner(model, KVBudget(64))
    sampling = SamplingParams(max_tokens=1, seed=0)
    rows = [
        Row(Sequence(str(slot), 0, sampling, [*range(slot + 5, slot + 25)], 20), slot, 0, 20)
        for slot in range(2)
    ]
    last = [
        Row(Sequence(str(slot), 0, sampling, [*range(30 + count)], 0), slot, 20, count)
        for slot, count in enumerate((1, 9))
    ]
    return [runner.run(Plan(tuple(step), wants_all=True)) for step in ([rows[0]], [rows[1]], last)]


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "phi3", "qwen3_moe", "opt"])
def test_logits_are_the_forwards_bit_for_bit(model_type: str) -> None:
    model = tiny_model(model_type)
    use_slot_attention(model)
    expected = logits(model)
    assert use_tape(model)
    assert all(torch.equal(*pair) for pair in zip(logits(model), expected, strict=True))


def test_modules_are_not_called_any_more() -> None:
    model = tiny_model("llama")
    prepare_model(model)
    called: list[nn.Module] = []
    for module in model.model.layers.modules():
        module.register_forward_pre_hook(lambda module, _inputs: called.append(module))
    logits(model)
    assert called == []


def test_model_that_looks_at_its_inputs_goes_on_as_it_is() -> None:
    model = tiny_model("gpt2")  # warns of padding
    use_slot_attention(model)
    expected = logits(model)
    assert not use_tape(model)
    assert all(torch.equal(*pair) for pair in zip(logits(model), expected, strict=True))


class ByLoneToken(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.shape[1] == 1 else x * 3


class ByFifthOfTokens(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x[:, x.shape[1] // 5]


@pytest.mark.parametrize("norm", [ByLoneToken(), ByFifthOfTokens()])
def test_model_that_does_another_thing_for_another_number_of_tokens_goes_on_as_it_is(norm: nn.Module) -> None:
    model = tiny_model("llama")
    use_slot_attention(model)
    model.model.norm = norm
    assert not use_tape(model)
