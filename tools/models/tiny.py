"""Tiny models with random weights, one of each architecture of transformers that generates text."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

VOCABULARY = 160
#: Fields of configs. Each config gets those that its class declares.
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size": 64, "d_model": 64, "n_embd": 64, "embedding_size": 64, "word_embed_proj_dim": 64,
    "num_hidden_layers": 3, "n_layer": 3, "n_layers": 3, "num_layers": 3, "decoder_layers": 3, "encoder_layers": 1,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "decoder_attention_heads": 4, "encoder_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16,
    "intermediate_size": 96, "ffn_dim": 96, "n_inner": 96, "ffn_hidden_size": 96, "decoder_ffn_dim": 96,
    "encoder_ffn_dim": 96, "dim_ff": 96, "dff": 96,
    "max_position_embeddings": 512, "n_positions": 512, "n_ctx": 512, "max_seq_len": 512, "sliding_window": 7,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "moe_k": 2, "moe_topk": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "n_group": 1,
    "topk_group": 1, "n_shared_experts": 1, "moe_num_shared_experts": 1, "query_pre_attn_scalar": 16,
    "hidden_size_per_layer_input": 8, "rotary_dim": 8, "is_decoder": True,
    "bos_token_id": 1, "pad_token_id": 0, "eos_token_id": None, "tie_word_embeddings": False,
}  # fmt: skip
#: Latent attention: heads have a part with rotary positions and one without.
_LATENT = {
    "kv_lora_rank": 16, "q_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
    "head_dim": 8, "num_key_value_heads": 4,
}  # fmt: skip
_SLIDING = {"num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2}
_LINEAR = {"num_hidden_layers": 4, "layer_types": ["linear_attention"] * 3 + ["full_attention"]}
_ROTARY = {"rope_type": "default", "rope_theta": 1e4}
_SHARING = {
    "num_hidden_layers": 6, "layer_types": ["sliding_attention", "full_attention"] * 3, "num_kv_shared_layers": 2
}  # fmt: skip
_TEXT = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 96, "max_position_embeddings": 512, "head_dim": 16,
}  # fmt: skip
_VISION = {
    "model_type": "siglip_vision_model", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
    "num_attention_heads": 4, "image_size": 28, "patch_size": 14,
}  # fmt: skip
#: What the architectures need besides, or instead.
_SPECIAL: dict[str, dict[str, Any]] = {
    "blt": {"encoder_hash_byte_group_vocab": 50},
    "cohere_compass_text": {
        **_SLIDING, "rope_parameters": {"full_attention": _ROTARY, "sliding_attention": _ROTARY}
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"moe_num_experts": 4, "ffn_hidden_size": 96},
    },
    "exaone4": _SLIDING,
    "exaone_moe": _SLIDING,
    "gemma3_text": _SLIDING,
    "fuyu": {"text_config": {"model_type": "persimmon", **_TEXT}, "image_size": 28, "patch_size": 14},
    "gemma3": {"vision_config": _VISION},
    "gemma3n_text": {**_SHARING, "activation_sparsity_pattern": [0.0] * 6, "laurel_rank": 8},
    "gemma4_assistant": {"text_config": {"model_type": "gemma4_text", **_TEXT, "hidden_size_per_layer_input": 0}},
    "gemma4_unified_assistant": {"text_config": {"model_type": "gemma4_unified_text", **_TEXT}},
    "got_ocr2": {"text_config": {"model_type": "qwen2", **_TEXT}},
    "gpt_neo": {
        "attention_types": [[["global", "local"], 2]], "num_layers": 4, "num_hidden_layers": 4, "window_size": 7
    },
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"]},
    "mamba2": {"num_heads": 8, "head_dim": 16, "n_groups": 2},
    "moss_transcribe_diarize": {"text_config": {"model_type": "qwen3", **_TEXT}},
    "reformer": {"axial_pos_embds_dim": (16, 48), "axial_pos_shape": (16, 32)},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 32},
    "zamba2": {"num_hidden_layers": 54},
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip
#: Sizes of the parts of models that read images or sound.
_PARTS: dict[str, Any] = {
    **_SIZES, "image_size": 28, "patch_size": 14, "vision_output_dim": 64, "out_hidden_size": 64, "depth": 1,
}  # fmt: skip
#: More weights than this are not built: the config has sizes that this module does not know.
_MAX_WEIGHTS = 60_000_000


class NotBuilt(Exception):
    """Raised when no tiny model of an architecture can be built."""


def tiny_config(model_type: str) -> PreTrainedConfig:
    """A small config, with the layers, gates and norms of its class's defaults."""
    config_class = CONFIG_MAPPING[model_type]
    fields = _fields(config_class, _SIZES)
    for name, part in config_class.sub_configs.items():
        if name != "text_config":
            fields[name] = _fields(part, _PARTS)
        elif part is not AutoConfig:
            fields[name] = _fields(part, _SIZES)
    config: PreTrainedConfig = config_class(**{**fields, **_SPECIAL.get(model_type, {})})
    return config


def tiny_model(model_type: str, seed: int = 0) -> PreTrainedModel:
    """A float32 model in eval mode whose outputs vary. Raises NotBuilt."""
    config = tiny_config(model_type)
    config.eos_token_id = config.get_text_config(decoder=True).eos_token_id = None
    with torch.device("meta"):
        num_weights = AutoModelForCausalLM.from_config(config).num_parameters()
    if num_weights > _MAX_WEIGHTS:
        raise NotBuilt(f"{model_type}: {num_weights:,} weights")
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).float()
    with torch.no_grad():
        for parameter in model.parameters():
            # Weights as small as those of a new model make every token alike.
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.2)
    return model.eval()


def _fields(config_class: type, sizes: dict[str, Any]) -> dict[str, Any]:
    declared = _declared(config_class)
    if "kv_lora_rank" in declared:
        sizes = {**sizes, **_LATENT}
    return {name: value for name, value in sizes.items() if name in declared}


def _declared(config_class: type) -> set[str]:
    """The fields of a config class, and the names that it maps to them."""
    names: set[str] = set()
    for base in config_class.__mro__:
        names |= set(getattr(base, "__annotations__", {}))
    return names | set(getattr(config_class, "attribute_map", {}))
