from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from shared.domain.output import ChoiceOutput
from shared.domain.sampling import SamplingParams
from tests.models import SUPPORTED, byte_tokenizer, tiny_model
from workers.engine.attention import slots as attention
from workers.engine.engine import Engine
from workers.engine.linear.onednn import OneDnnLinear, can_pack
from workers.engine.loading.determinism import DeterminismTrial
from workers.engine.loading.loader import prepare_model
from workers.engine.model.runner import ModelRunner
from workers.engine.resolved_request import ResolvedRequest
from workers.engine.sampling.sampler import Sampler
from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.plan import Plan
from workers.engine.scheduling.scheduler import Scheduler
from workers.engine.text.output_builder import OutputBuilder
from workers.engine.token_bytes import TokenBytes

TOKENIZER = byte_tokenizer()
TOKEN_BYTES = TokenBytes(TOKENIZER.backend_tokenizer)
#: Tokens of each answer.
LENGTH = 48
#: Heads like SmolLM2's: wide enough for libraries to choose between algorithms.
WIDE: dict[str, Any] = {"hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3}
LONG = {"max_position_embeddings": 1024}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dense_model_is_exact(dtype: torch.dtype) -> None:
    if not can_pack(torch.device("cpu"), dtype):
        pytest.skip("this CPU has no kernels for this dtype")
    found = prepare_model(tiny_model("llama", **WIDE, **LONG, intermediate_size=1536).to(dtype))
    assert found.is_exact


def test_same_model_has_the_same_digest_and_another_does_not() -> None:
    first, again, other = (prepare_model(tiny_model("llama", seed=seed)).digest for seed in (1, 1, 2))
    assert first == again != other


def test_digest_does_not_depend_on_the_threads() -> None:
    threads = torch.get_num_threads()
    model = tiny_model("llama", **WIDE, **LONG)
    prepare_model(model)
    try:
        digests = set()
        for num in (1, 2):
            torch.set_num_threads(num)
            digests.add(DeterminismTrial(model).run().digest)
    finally:
        torch.set_num_threads(threads)
    assert len(digests) == 1


def mix_by_length(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Like a library that splits a sum by its length."""
    half = values.shape[1] // 2
    return torch.bmm(weights[:, :, :half], values[:, :half]) + torch.bmm(
        weights[:, :, half:], values[:, half:]
    )


def test_a_sum_that_depends_on_the_number_of_keys_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_mix", mix_by_length)
    assert not prepare_model(tiny_model("llama", **WIDE, **LONG), native="off").is_exact


@pytest.mark.parametrize("length", [128, 256, 512])
def test_a_sum_that_changes_beyond_some_keys_is_detected(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = attention._mix

    def mix(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        wrong = values.shape[1] > length
        return (mix_by_length if wrong else right)(weights, values)

    monkeypatch.setattr(attention, "_mix", mix)
    assert not prepare_model(tiny_model("llama", **WIDE, **LONG), native="off").is_exact


def does_bmm_depend_on_length() -> bool:
    """Whether a sum over 272 keys changes when zeros follow, as with MKL on AVX-512."""
    torch.manual_seed(0)
    weights, values = torch.rand(9, 4, 528), torch.randn(9, 528, 64)
    weights[:, :, 272:] = 0
    short = torch.bmm(weights[:, :, :272].contiguous(), values[:, :272].contiguous())
    return not torch.equal(short, torch.bmm(weights, values))


@pytest.mark.skipif(not does_bmm_depend_on_length(), reason="sums do not depend on their length here")
def test_attention_without_blocks_of_keys_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_KEY_BLOCK", 1 << 20)
    assert not prepare_model(tiny_model("llama", **WIDE, **LONG), native="off").is_exact


def test_a_product_that_sums_a_single_row_in_another_order_is_detected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forward(self: OneDnnLinear, x: torch.Tensor) -> torch.Tensor:
        if x.numel() > self.in_features:
            return self.multiply(x)
        first, second = x.clone(), x.clone()
        first[..., ::2], second[..., 1::2] = 0, 0
        return self.multiply(first) + self.multiply(second)

    monkeypatch.setattr(OneDnnLinear, "forward", forward)
    assert not prepare_model(tiny_model("llama"), native="off").is_exact


def test_a_model_whose_rows_depend_on_the_batch_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    run = ModelRunner.run

    def shift_by_rows(self: ModelRunner, plan: Plan) -> torch.Tensor:
        logits: torch.Tensor = run(self, plan)
        return logits * (1 + 1e-6) if plan.num_tokens == 31 else logits

    monkeypatch.setattr(ModelRunner, "run", shift_by_rows)
    assert not prepare_model(tiny_model("llama"), native="off").is_exact


def make_engine(model: Any, *, chunk: int) -> Engine:
    return Engine(
        ModelRunner(model, KVBudget(512)),
        Scheduler(max_slots=8, prefill_chunk=chunk, max_step_tokens=max(32, chunk)),
        Sampler(),
        lambda request, choice: OutputBuilder(TOKEN_BYTES, request, choice),
        KVBudget(512),
    )


def requested(seed: int) -> ResolvedRequest:
    chance = random.Random(seed)
    prompt = tuple(chance.randrange(256) for _ in range(chance.randrange(70, 110)))
    return ResolvedRequest(
        (prompt,), SamplingParams(max_tokens=LENGTH, seed=seed, temperature=float(seed % 2)), (), "r"
    )


def answers(
    engine: Engine,
    requests: Mapping[str, tuple[ResolvedRequest, tuple[ChoiceOutput, ...]]],
    *,
    every: int = 1,
) -> dict[str, ChoiceOutput]:
    """Each request's answer. Requests arrive one after another, this many steps apart."""
    waiting, made = (
        list(requests.items()),
        {name: so_far[0] for name, (_, so_far) in requests.items() if so_far},
    )
    steps = 0
    while waiting or engine.has_work:
        if waiting and steps % every == 0:
            name, (request, so_far) = waiting.pop(0)
            engine.add(name, request, so_far)
        steps += 1
        for output in engine.step():
            for choice in output.choices:
                name = output.request_id
                made[name] = made[name].joined(choice) if name in made else choice
    return made


@pytest.mark.timeout(120)
@pytest.mark.parametrize("model_type", sorted(SUPPORTED))
def test_an_exact_model_draws_the_same_tokens_in_any_batch_and_after_any_resume(model_type: str) -> None:
    model = tiny_model(model_type, vocab_size=len(TOKENIZER))
    if not prepare_model(model).is_exact:
        assert "mo" in model_type or model_type in ("mixtral", "gpt_oss"), (
            "only mixtures of experts may be inexact"
        )
        pytest.skip("the trial reports that this model is not deterministic")
    requests = {str(seed): requested(seed) for seed in range(3)}
    alone = {
        name: answers(make_engine(model, chunk=128), {name: (request, ())})[name]
        for name, request in requests.items()
    }
    assert all(len(answer.ids) == LENGTH for answer in alone.values())
    together = {name: (request, ()) for name, request in requests.items()}
    assert answers(make_engine(model, chunk=5), together, every=7) == alone
    broken = {
        f"{name} at {cut}": (requests[name], (ChoiceOutput(0, 0, one.ids[:cut], one.texts[:cut]),))
        for cut in (1, 20, 40)
        for name, one in alone.items()
    }
    continued = answers(make_engine(model, chunk=64), broken, every=3)
    assert {name: one.token_ids for name, one in continued.items()} == {
        name: alone[name.partition(" ")[0]].token_ids for name in broken
    }
