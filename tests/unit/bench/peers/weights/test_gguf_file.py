"""The GGUF file has the weights and the tokenizer of the directory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.torch import load_file

from bench.peers.weights.gguf_file import Kind, write_gguf
from tests.unit.bench.peers.small_model import SMALL

#: The largest error of a weight: none in bfloat16; a 254th of a block's range in eight bits.
_TOLERANCES: dict[Kind, float] = {"BF16": 0.0, "Q8_0": 1 / 200}


@pytest.mark.parametrize("kind", ["BF16", "Q8_0"])
def test_weights_are_the_same(small_model: Path, tmp_path: Path, kind: Kind) -> None:
    write_gguf(small_model, tmp_path / "model.gguf", kind)
    stored = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "model.gguf").tensors}
    weights = load_file(small_model / "model.safetensors")
    assert len(stored) == len(weights)
    for ours, theirs in (
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.layers.1.mlp.down_proj.weight", "blk.1.ffn_down.weight"),
        ("model.norm.weight", "output_norm.weight"),
    ):
        weight = weights[ours].float().numpy()
        found = dequantize(stored[theirs].data, stored[theirs].tensor_type)
        assert np.abs(found - weight).max() <= _TOLERANCES[kind] * np.abs(weight).max()


def test_rotary_pairs_are_interleaved(small_model: Path, tmp_path: Path) -> None:
    write_gguf(small_model, tmp_path / "model.gguf", "BF16")
    stored = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "model.gguf").tensors}
    weight = load_file(small_model / "model.safetensors")["model.layers.0.self_attn.k_proj.weight"]
    found = dequantize(stored["blk.0.attn_k.weight"].data, stored["blk.0.attn_k.weight"].tensor_type)
    head_dim = SMALL.hidden // SMALL.heads
    order = [half * head_dim // 2 + pair for pair in range(head_dim // 2) for half in (0, 1)]
    rows = [head * head_dim + row for head in range(SMALL.kv_heads) for row in order]
    assert np.array_equal(found, weight.float().numpy()[rows])


def test_the_tokenizer_goes_along(small_model: Path, tmp_path: Path) -> None:
    write_gguf(small_model, tmp_path / "model.gguf", "BF16")
    fields = GGUFReader(tmp_path / "model.gguf").fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    assert len(tokens) == SMALL.vocabulary
    assert tokens[fields["tokenizer.ggml.eos_token_id"].contents()] == "<|im_end|>"
    assert fields["tokenizer.ggml.token_type"].contents()[:4] == [3, 3, 3, 1]
    assert "<|im_start|>assistant" in fields["tokenizer.chat_template"].contents()
