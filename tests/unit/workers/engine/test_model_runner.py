from __future__ import annotations

import random

import pytest
import torch
from transformers import PreTrainedModel

from shared.sampling import SamplingParams
from tests.models import SUPPORTED, generate, tiny_model
from workers.engine.kv_budget import KVBudget
from workers.engine.loader import prepare_model
from workers.engine.model_runner import ModelRunner
from workers.engine.scheduler import Scheduler
from workers.engine.sequence import Sequence

NUM_OUTPUT = 12


def prompts(*lengths: int) -> list[list[int]]:
    chance = random.Random(3)
    return [[chance.randrange(3, 160) for _ in range(length)] for length in lengths]


def decode(
    model: PreTrainedModel, inputs: list[list[int]], *, chunk: int, join_every: int
) -> list[list[int]]:
    """Greedy tokens of each; one more joins every so many steps."""
    runner = ModelRunner(model, KVBudget(64))
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
def test_tokens_are_those_of_generate_whoever_joins(model_type: str) -> None:
    model = tiny_model(model_type)
    inputs = prompts(1, 7, 30, 12, 3, 18)
    expected = [generate(model, prompt, NUM_OUTPUT) for prompt in inputs]
    assert len({token for output in expected for token in output}) >= 5, "says nothing: tokens repeat"
    prepare_model(model)
    assert decode(model, inputs, chunk=5, join_every=3) == expected
    assert decode(model, inputs[:1], chunk=64, join_every=1) == expected[:1]


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


def test_logits_are_float32_and_one_row_for_each_that_draws() -> None:
    model = tiny_model("llama")
    prepare_model(model)
    runner = ModelRunner(model, KVBudget(64))
    scheduler = Scheduler(max_slots=2, prefill_chunk=4, max_step_tokens=8)
    scheduler.add(Sequence("r", 0, SamplingParams(max_tokens=1, seed=0), [1, 2, 3, 4, 5], 5))
    plan = scheduler.schedule()
    logits = runner.run(plan)
    assert (logits.dtype, logits.shape) == (torch.float32, (0, 160))
