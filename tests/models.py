"""Tiny models with random weights, one of each architecture that tests care about."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

#: The sizes that every tiny model has; config classes map these words to their own.
_SIZES: dict[str, Any] = {
    "vocab_size": 160,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "pad_token_id": 0,
}
_LLAMA: dict[str, Any] = {**_SIZES, "intermediate_size": 64, "num_key_value_heads": 2}
_MOE = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_GEMMA = {"head_dim": 16, "sliding_window": 7, "query_pre_attn_scalar": 16}

#: Model type -> config. The engine must run these.
SUPPORTED: dict[str, dict[str, Any]] = {
    "llama": {**_LLAMA, "tie_word_embeddings": True},
    "qwen2": _LLAMA,
    "qwen3": {**_LLAMA, "head_dim": 16},
    "mistral": {**_LLAMA, "sliding_window": 7},
    "gemma2": {**_LLAMA, **_GEMMA},
    "gemma3_text": {**_LLAMA, **_GEMMA},
    "gpt2": _SIZES,
    "phi3": {**_LLAMA, "sliding_window": 9},
    "mixtral": {**_LLAMA, **_MOE},
    "qwen3_moe": {**_LLAMA, **_MOE, "head_dim": 16},
    "phi": _LLAMA,
    "gpt_neox": {**_SIZES, "intermediate_size": 64},
    "opt": {**_SIZES, "ffn_dim": 64, "word_embed_proj_dim": 48},
    "gpt_oss": {
        **_LLAMA,
        **_MOE,
        "head_dim": 16,
        "sliding_window": 7,
        "rope_parameters": {"rope_type": "default"},
    },
    "olmo2": _LLAMA,
    "starcoder2": _LLAMA,
    "cohere": _LLAMA,
    "cohere2": {**_LLAMA, "sliding_window": 7},
    "stablelm": _LLAMA,
    "smollm3": _LLAMA,
    "glm4": {**_LLAMA, "head_dim": 8},
    "granite": _LLAMA,
}

#: The engine must refuse these: they keep attention to themselves, or have another kind of state.
UNSUPPORTED: dict[str, dict[str, Any]] = {
    "bloom": _SIZES,
    "gptj": {**_SIZES, "rotary_dim": 4},
    "gpt_neo": {**_SIZES, "attention_types": [[["global"], 3]]},
    "falcon": _SIZES,
    "mpt": _SIZES,
    "mamba": {**_SIZES, "state_size": 8},
    "llama4_text": {
        **_LLAMA,
        **_MOE,
        "head_dim": 8,
        "attention_chunk_size": 8,
        "intermediate_size_mlp": 64,
    },
}


def tiny_model(model_type: str, *, seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """A float32 causal language model of the type, in eval mode, that draws varied tokens."""
    sizes = {**SUPPORTED, **UNSUPPORTED}[model_type]
    config = AutoConfig.for_model(model_type, **{**sizes, **overrides})
    config.eos_token_id = None  # nothing ends a generation early
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            # Small random weights make every logit alike and outputs repeat: wider ones tell errors apart.
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.25)
    return model.eval()


def generate(model: PreTrainedModel, prompt: list[int], num_tokens: int) -> list[int]:
    """What transformers itself generates, greedily and alone."""
    input_ids = torch.tensor([prompt])
    output = model.generate(
        input_ids,
        attention_mask=torch.ones_like(input_ids),
        max_new_tokens=num_tokens,
        do_sample=False,
        pad_token_id=0,
    )
    return cast(list[int], output[0, len(prompt) :].tolist())


#: `<|role|>text<|end|>` for each message.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_SPECIAL_TOKENS = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]


def byte_tokenizer(merges: tuple[tuple[str, str], ...] = ()) -> PreTrainedTokenizerFast:
    """A tokenizer with a token for each byte and merge, end and role; 260 without merges."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, merges)]
    tokenizer = Tokenizer(BPE({token: i for i, token in enumerate(tokens)}, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(_SPECIAL_TOKENS)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=_SPECIAL_TOKENS[0], chat_template=CHAT_TEMPLATE
    )


def write_tiny_model(
    directory: Path, model_type: str = "llama", merges: tuple[tuple[str, str], ...] = (), **overrides: Any
) -> Path:
    """A directory as the hub has them: config, safetensors, tokenizer with a chat template; about 200 kB."""
    tokenizer = byte_tokenizer(merges)
    model = tiny_model(model_type, **{"vocab_size": len(tokenizer), **overrides})
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
