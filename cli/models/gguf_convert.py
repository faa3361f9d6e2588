"""Converts the Llama model of a GGUF file to a model directory for transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import BatonError

if TYPE_CHECKING:
    from torch import Tensor

_CONTROL_TOKEN = 3
_LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class ModelFetchError(BatonError):
    """Raised when the default model cannot be fetched; the message says why and what to do."""


#: Called with (stage, done, total): `download` in bytes, `verify`, and `convert` in tensors. None: unknown.
Progress = Callable[[str, int, int | None], None]


def convert_gguf(gguf_file: Path, target: Path, on_progress: Progress) -> None:
    """Write the Llama model of a GGUF file as a Hugging Face model directory with bfloat16 weights."""
    from gguf import GGUFReader

    reader = GGUFReader(gguf_file)
    metadata = {name: field.contents() for name, field in reader.fields.items()}
    target.mkdir()
    for name, fields in (
        ("config", _model_config(metadata)),
        ("generation_config", _special_ids(metadata)),
        ("tokenizer_config", _tokenizer_config(metadata)),
    ):
        (target / f"{name}.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    (target / "chat_template.jinja").write_text(metadata["tokenizer.chat_template"], encoding="utf-8")
    _write_tokenizer(target / "tokenizer.json", metadata)
    _write_weights(target / "model.safetensors", reader.tensors, metadata, on_progress)


def _special_ids(metadata: dict[str, Any]) -> dict[str, Any]:
    return {
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"],
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
        "pad_token_id": metadata["tokenizer.ggml.padding_token_id"],
    }


def _model_config(metadata: dict[str, Any]) -> dict[str, Any]:
    num_heads = metadata["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_size": metadata["llama.embedding_length"],
        "intermediate_size": metadata["llama.feed_forward_length"],
        "num_hidden_layers": metadata["llama.block_count"],
        "num_attention_heads": num_heads,
        "num_key_value_heads": metadata["llama.attention.head_count_kv"],
        "head_dim": metadata["llama.embedding_length"] // num_heads,
        "max_position_embeddings": metadata["llama.context_length"],
        # GGUF stores a float32; round to the number that was meant.
        "rms_norm_eps": float(f"{metadata['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        "rope_theta": metadata["llama.rope.freq_base"],
        "rope_parameters": {"rope_type": "default", "rope_theta": metadata["llama.rope.freq_base"]},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "vocab_size": metadata["llama.vocab_size"],
        **_special_ids(metadata),
    }


def _tokenizer_config(metadata: dict[str, Any]) -> dict[str, Any]:
    tokens = metadata["tokenizer.ggml.tokens"]
    special = {
        name.removesuffix("_id"): tokens[token_id] for name, token_id in _special_ids(metadata).items()
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": metadata["llama.context_length"],
        "unk_token": tokens[metadata["tokenizer.ggml.unknown_token_id"]],
        **special,
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
    }


def _write_tokenizer(path: Path, metadata: dict[str, Any]) -> None:
    """The byte-level BPE that llama.cpp calls `smollm`: single digits, then GPT-2's words."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = metadata["tokenizer.ggml.tokens"]
    types = metadata["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, types, strict=True) if kind == _CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    tokenizer.save(str(path))


def _write_weights(path: Path, tensors: Any, metadata: dict[str, Any], on_progress: Progress) -> None:
    import torch
    from gguf.quants import dequantize
    from safetensors.torch import save_file

    heads = {"attn_q": "llama.attention.head_count", "attn_k": "llama.attention.head_count_kv"}
    weights = {}
    for done, tensor in enumerate(tensors):
        on_progress("convert", done, len(tensors))
        weight = torch.tensor(dequantize(tensor.data, tensor.tensor_type))
        kind = tensor.name.split(".")[-2]
        if kind in heads:
            weight = _unpermute(weight, metadata[heads[kind]])
        weights[_weight_name(tensor.name)] = weight.to(torch.bfloat16).contiguous()
    save_file(weights, path, {"format": "pt"})
    path.chmod(0o644)  # safetensors makes it readable by its owner only
    on_progress("convert", len(tensors), len(tensors))


def _weight_name(name: str) -> str:
    """The name of a GGUF file's tensor in Hugging Face's Llama."""
    top = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    if name in top:
        return top[name]
    try:
        _, layer, kind, parameter = name.split(".")
        return f"model.layers.{layer}.{_LAYER_TENSORS[kind]}.{parameter}"
    except (ValueError, KeyError) as error:
        raise ModelFetchError(
            f"the GGUF file has a tensor {name}, which is not part of a Llama with tied embeddings"
        ) from error


def _unpermute(weight: Tensor, num_heads: int) -> Tensor:
    """Converts llama.cpp's interleaved rotary pairs back to Hugging Face's halves."""
    pairs = weight.reshape(num_heads, -1, 2, weight.shape[1])
    return pairs.transpose(1, 2).reshape(weight.shape)
