"""The bare loop computes what `generate` does."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from bench.peers.rivals import loop_process
from bench.peers.weights.prompts import Chat

CHATS = [Chat((), tuple(range(first, first + 9))) for first in (5, 50, 100)]


def test_each_step_draws_the_likeliest_token(small_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(small_model, dtype=torch.float32, attn_implementation="sdpa")
    prompts = [list(chat.token_ids) for chat in CHATS]
    read: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda _, __, given: read.append(given["input_ids"]), with_kwargs=True)
    assert len(loop_process.run(model, prompts, 6)) == 6
    drawn = torch.cat(read[1:], dim=1)
    expected = model.generate(
        torch.tensor(prompts),
        attention_mask=torch.ones(3, 9, dtype=torch.long),
        max_new_tokens=5,
        do_sample=False,
    )
    assert torch.equal(drawn, expected[:, 9:])
