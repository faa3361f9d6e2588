"""Builds a Llama with random weights that are the same at every call."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel


def random_llama(**shape: int) -> PreTrainedModel:
    """A float32 model with tied embeddings and a context of 2048. `shape` has the size fields of LlamaConfig."""
    torch.manual_seed(0)
    config = LlamaConfig(**shape, max_position_embeddings=2048, tie_word_embeddings=True)
    return LlamaForCausalLM(config).eval()
