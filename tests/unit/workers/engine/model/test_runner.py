from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from shared.domain.sampling import SamplingParams
from tests.models import SUPPORTED, generate, tiny_model
from tests.unit.workers.engine.model.test_cuda_graphs import Recording
from workers.engine.loading.loader import prepare_model
from workers.engine.model import runner as model_runner
from workers.engine.model.kv_form import make_budget
from workers.engine.model.runner import ModelRunner
from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.scheduler import Scheduler
from workers.engine.scheduling.sequence import Sequence

NUM_OUTPUT = 12
#: One model per kind of attention that pages support: plain, windows, soft caps, sinks, learned positions,
#: experts.
PAGED = ("llama", "phi3", "gemma2", "gpt_oss", "opt", "mixtral")


def prompts(*lengths: int) -> list[list[int]]:
    chance = random.Random(3)
    return [[chance.randrange(3, 160) for _ in range(length)] for length in lengths]


def decode(
    model: PreTrainedModel, inputs: list[list[int]], *, chunk: int, join_every: int
) -> list[list[int]]:
    """Greedy tokens of each prompt. Another prompt joins every few steps."""
    return decode_by(ModelRunner(model, make_budget(model, 64)), inputs, chunk=chunk, join_every=join_every)


def decode_by(
    runner: ModelRunner, inputs: list[list[int]], *, chunk: int, join_every: int
) -> list[list[int]]:
    scheduler = Scheduler(max_slots=4, prefill_chunk=chunk, max_step_tokens=max(16, chunk))
    sampling = SamplingParams(max_tokens=NUM_OUTPUT, seed=0, temperature=0)
    sequences = [Sequence(str(i), 0, sampling, list(p), len(p)) for i, p in enumerate(inputs)]
    late = list(sequences)
    step = 0
    while late or scheduler.has_work:
        if late and step % join_every == 0:
            scheduler.add(late.pop(0))
        step += 1
        plan = scheduler.schedule()
        if not plan.rows:
            continue
        drawing = plan.drawing_rows
        drawn = runner.run(plan).argmax(-1).tolist()
        for row in plan.rows:
            row.sequence.num_computed += row.count
        for row, token_id in zip(drawing, drawn, strict=True):
            row.sequence.token_ids.append(token_id)
            if row.sequence.position == NUM_OUTPUT:
                scheduler.remove(row.sequence)
    runner.check_attended()
    return [sequence.token_ids[sequence.num_prompt_tokens :] for sequence in sequences]


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_tokens_match_generate_when_others_join(model_type: str) -> None:
    model = tiny_model(model_type)
    inputs = prompts(1, 7, 30, 12, 3, 18)
    expected = [generate(model, prompt, NUM_OUTPUT) for prompt in inputs]
    assert len({token for output in expected for token in output}) >= 5, "says nothing: tokens repeat"
    prepare_model(model)
    assert decode(model, inputs, chunk=5, join_every=3) == expected
    assert decode(model, inputs[:1], chunk=64, join_every=1) == expected[:1]


@pytest.mark.parametrize("model_type", PAGED)
def test_pages_match_generate_when_others_join(model_type: str) -> None:
    model = tiny_model(model_type)
    inputs = prompts(1, 7, 30, 12, 3, 18)
    expected = [generate(model, prompt, NUM_OUTPUT) for prompt in inputs]
    assert len({token for output in expected for token in output}) >= 5, "says nothing: tokens repeat"
    prepare_model(model, kv_form="pages")
    assert decode(model, inputs, chunk=5, join_every=3) == expected
    assert decode(model, inputs[:1], chunk=64, join_every=1) == expected[:1]


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "gpt_oss"])
def test_cuda_graphs_match_generate(model_type: str) -> None:
    """Prompts longer than a page, and chunks beside decoding rows. One slot serves two of the prompts."""
    model = tiny_model(model_type)
    inputs = prompts(300, 7, 250, 12, 3)
    expected = [generate(model, prompt, NUM_OUTPUT) for prompt in inputs]
    assert len({token for output in expected for token in output}) >= 5, "says nothing: tokens repeat"
    prepare_model(model, kv_form="pages")
    runner = ModelRunner(model, make_budget(model, 512, 4 * 512))
    recording = Recording()
    assert runner.record_decoding(4, recording)
    assert decode_by(runner, inputs, chunk=50, join_every=2) == expected
    assert recording.num_replays >= NUM_OUTPUT


def test_a_model_that_cannot_be_captured_still_decodes(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_compute: object) -> Callable[[], torch.Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")

    model = tiny_model("llama")
    inputs = prompts(5, 9)
    expected = [generate(model, prompt, NUM_OUTPUT) for prompt in inputs]
    prepare_model(model, kv_form="pages")
    runner = ModelRunner(model, make_budget(model, 512, 1024))
    assert not runner.record_decoding(4, refuse)
    assert "LlamaForCausalLM decodes without CUDA graphs" in caplog.text
    assert decode_by(runner, inputs, chunk=50, join_every=1) == expected


def test_nothing_is_captured_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise AssertionError("no CUDA here")

    monkeypatch.setattr(model_runner, "CudaRecorder", fail)
    for form in ("slots", "pages"):
        model = tiny_model("llama")
        prepare_model(model, kv_form=form)
        assert not ModelRunner(model, make_budget(model, 512, 1024)).record_decoding(4)


@pytest.mark.gpu
@pytest.mark.parametrize("model_type", PAGED)
def test_on_a_gpu_tokens_match_generate(model_type: str, cuda: torch.device) -> None:
    """In float32, which plain torch computes."""
    model = tiny_model(model_type)
    inputs = prompts(300, 7, 250, 12, 3)
    expected = [generate(model, prompt, NUM_OUTPUT) for prompt in inputs]
    prepare_model(model.to(cuda))
    runner = ModelRunner(model, make_budget(model, 512))
    assert decode_by(runner, inputs, chunk=50, join_every=2) == expected


@pytest.mark.gpu
@pytest.mark.parametrize("model_type", ["llama", "phi3", "gpt_oss", "opt"])
def test_on_a_gpu_captured_steps_compute_the_same(model_type: str, cuda: torch.device) -> None:
    """In bfloat16, which torch's kernel computes. The number of rows may change the last bits."""
    model = tiny_model(model_type, head_dim=16, hidden_size=96).to(cuda, torch.bfloat16)
    prepare_model(model)
    plain, recorded = (ModelRunner(model, make_budget(model, 512, 4 * 512)) for _ in range(2))
    assert recorded.record_decoding(4)
    scheduler = Scheduler(max_slots=4, prefill_chunk=100, max_step_tokens=128)
    for index, prompt in enumerate(prompts(300, 7, 250)):
        sampling = SamplingParams(max_tokens=NUM_OUTPUT, seed=0)
        scheduler.add(Sequence(str(index), 0, sampling, list(prompt), len(prompt)))
    for _ in range(20):
        plan = scheduler.schedule()
        logits, found = plain.run(plan), recorded.run(plan)
        assert (found - logits).norm() <= 0.05 * logits.norm()
        for row in plan.rows:
            row.sequence.num_computed += row.count
        for row, token_id in zip(plan.drawing_rows, logits.argmax(-1).tolist(), strict=True):
            row.sequence.token_ids.append(token_id)


def test_long_sequences_cross_every_block_of_keys() -> None:
    model = tiny_model("llama", max_position_embeddings=1024)
    prompt = prompts(500)[0]
    expected = generate(model, prompt, NUM_OUTPUT)
    prepare_model(model)
    runner = ModelRunner(model, KVBudget(600))
    sequence = Sequence("r", 0, SamplingParams(max_tokens=NUM_OUTPUT, seed=0), list(prompt), len(prompt))
    scheduler = Scheduler(max_slots=1, prefill_chunk=64, max_step_tokens=64)
    scheduler.add(sequence)
    while sequence.position < NUM_OUTPUT:
        plan = scheduler.schedule()
        logits, draws = runner.run(plan), bool(plan.drawing_rows)
        sequence.num_computed += plan.num_tokens
        if draws:
            sequence.token_ids.append(int(logits.argmax()))
    assert sequence.token_ids[len(prompt) :] == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_have_the_models_dtype_and_one_row_per_draw(dtype: torch.dtype) -> None:
    model = tiny_model("llama").to(dtype)
    prepare_model(model)
    runner = ModelRunner(model, KVBudget(64))
    scheduler = Scheduler(max_slots=2, prefill_chunk=4, max_step_tokens=8)
    scheduler.add(Sequence("r", 0, SamplingParams(max_tokens=1, seed=0), [1, 2, 3, 4, 5], 5))
    plan = scheduler.schedule()
    logits = runner.run(plan)
    assert (logits.dtype, logits.shape) == (dtype, (0, 160))
