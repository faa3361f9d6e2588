"""Writes the random model as a GGUF file for llama.cpp: the same weights as BF16 or quantized to Q8_0.

Names and metadata: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
from gguf.quants import quantize
from safetensors.torch import load_file
from torch import Tensor

Kind = Literal["BF16", "Q8_0"]

_TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(directory: Path, target: Path, kind: Kind) -> None:
    """Writes the untied Llama and byte-level tokenizer of `directory` to one file."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    writer = GGUFWriter(target, "llama")
    _add_shape(writer, config, kind)
    _add_tokenizer(writer, directory, config)
    for name, tensor in _tensors(directory, config):
        values = tensor.float().numpy()
        # Vectors stay float32, as in llama.cpp's own converter.
        stored = GGMLQuantizationType[kind] if tensor.ndim > 1 else GGMLQuantizationType.F32
        writer.add_tensor(name, quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: GGUFWriter, config: dict[str, Any], kind: Kind) -> None:
    writer.add_name("random")
    writer.add_file_type(LlamaFileType[f"MOSTLY_{kind}"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _add_tokenizer(writer: GGUFWriter, directory: Path, config: dict[str, Any]) -> None:
    tokenizer = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    by_id = {number: token for token, number in tokenizer["model"]["vocab"].items()}
    special = {added["id"] for added in tokenizer["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([by_id[number] for number in range(config["vocab_size"])])
    kinds = [TokenType.CONTROL if number in special else TokenType.NORMAL for number in range(len(by_id))]
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(False)
    writer.add_chat_template((directory / "chat_template.jinja").read_text(encoding="utf-8"))


def _tensors(directory: Path, config: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    heads = {
        "attn_q": config["num_attention_heads"],
        "attn_k": config["num_key_value_heads"],
    }
    for name, tensor in load_file(directory / "model.safetensors").items():
        target = _TOP.get(name) or _layer_name(name)
        kind = target.split(".")[-2]
        yield target, _interleave(tensor, heads[kind]) if kind in heads else tensor


def _layer_name(name: str) -> str:
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{_LAYER[rest.removesuffix('.weight')]}.weight"


def _interleave(weight: Tensor, num_heads: int) -> Tensor:
    """Converts Hugging Face's rotary halves to llama.cpp's interleaved pairs."""
    halves = weight.reshape(num_heads, 2, -1, weight.shape[1])
    return halves.transpose(1, 2).reshape(weight.shape)
