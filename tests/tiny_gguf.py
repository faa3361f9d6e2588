"""A GGUF file as users bring one: the tiny model of a directory, written as llama.cpp's converter does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import MODEL_ARCH_NAMES, GGUFWriter, TokenType, get_tensor_name_map
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.models import write_tiny_model

#: A file without any says nothing of them.
_MERGES = (("Ġ", "a"), ("Ġ", "1"))


def write_tiny_gguf(
    path: Path,
    model_type: str = "llama",
    *,
    words: str = "gpt-2",
    metadata: dict[str, str] | None = None,
    extra: str = "",
    **overrides: Any,
) -> Path:
    """Writes `path`, and its model as a directory beside it, whose path it answers.

    `words` names how text is split before tokens are looked for. `metadata` is added to the file's own, and a
    tensor with the name `extra`.
    """
    directory = write_tiny_model(path.parent / f"{path.stem}-directory", model_type, _MERGES, **overrides)
    writer = GGUFWriter(path, model_type)
    _add_config(writer, json.loads((directory / "config.json").read_text()))
    _add_tokenizer(writer, AutoTokenizer.from_pretrained(directory), words)
    for key, value in (metadata or {}).items():
        writer.add_string(key, value)
    _add_weights(writer, model_type, directory)
    if extra:
        writer.add_tensor(extra, np.ones(48, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return directory


def _add_config(writer: GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config.get("head_dim") or _head_dim(config))
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _head_dim(config: dict[str, Any]) -> int:
    return int(config["hidden_size"]) // int(config["num_attention_heads"])


def _add_tokenizer(writer: GGUFWriter, tokenizer: Any, words: str) -> None:
    tokens = [tokenizer.convert_ids_to_tokens(token_id) for token_id in range(len(tokenizer))]
    special = set(tokenizer.get_added_vocab())
    kinds = [TokenType.CONTROL if token in special else TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in _MERGES])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_chat_template(tokenizer.chat_template)


def _add_weights(writer: GGUFWriter, model_type: str, directory: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(directory)
    arch = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == model_type)
    names = get_tensor_name_map(arch, model.config.num_hidden_layers)
    for name, weight in model.named_parameters():
        stem, _, suffix = name.rpartition(".")
        if model_type == "llama" and stem.endswith(("q_proj", "k_proj")):
            weight = _interleaved(weight, weight.shape[0] // model.config.head_dim)
        writer.add_tensor(f"{names.get_name(stem)}.{suffix}", weight.detach().numpy())


def _interleaved(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Rotary halves as llama.cpp's pairs."""
    halves = weight.reshape(num_heads, 2, -1, weight.shape[1])
    return halves.transpose(1, 2).reshape(weight.shape).contiguous()
