"""Context length: how many tokens a model can read and write in one sequence, by its configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig

from shared.errors import SettingsError

#: The fields that state a length, in the order of vLLM (vllm/transformers_utils/model_arch_config_convertor.py).
_FIELDS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length")
#: Rotary types with a `factor` that does not extend `max_position_embeddings`: it is the extended length already.
_ALREADY_SCALED = ("default", "su", "longrope", "llama3", "proportional")


def context_limit(config: PreTrainedConfig) -> int | None:
    """The model's longest sequence, in tokens, as vLLM computes it (vllm/config/model.py, `_get_and_verify_max_len`).

    Scaled rotary positions (linear, dynamic, YaRN) extend the length by their factor. None: the config names none.
    """
    text = config.get_text_config()
    lengths = [getattr(text, name, None) for name in _FIELDS]
    limit = next((length for length in lengths if isinstance(length, int) and length > 0), None)
    # Gemma 3's length is the extended one.
    if limit is None or text.model_type.startswith("gemma3"):
        return limit
    return max([_extended(limit, parameters) for parameters in _rotary_parameters(text)], default=limit)


def choose_context_length(config: PreTrainedConfig, wanted: int | None) -> int:
    """The maximum length of prompt and output: `wanted`, or the model's limit. Raises SettingsError."""
    text = config.get_text_config()
    limit = context_limit(text)
    if limit is None:
        if wanted is None:
            raise SettingsError(
                f"the config of this {text.model_type} states no context length: set BATON_MAX_MODEL_LEN"
            )
        return wanted
    if wanted is None:
        return limit
    # Cohere's configs name a longer length as well, which may be asked for. A table of positions has no more entries.
    longer = getattr(text, "model_max_length", None) if _rotary_parameters(text) else None
    longest = max(limit, _int(longer))
    if wanted > longest:
        raise SettingsError(
            f"BATON_MAX_MODEL_LEN is {wanted}, but this {text.model_type} reads at most {longest} tokens: "
            f"set it to {longest} or less, or scale its rotary positions in config.json (rope_parameters)"
        )
    return wanted


def _rotary_parameters(config: PreTrainedConfig) -> list[Mapping[str, Any]]:
    """The model's rotary parameters: one mapping, or one for each kind of layer."""
    parameters = getattr(config, "rope_parameters", None)
    if not isinstance(parameters, Mapping):
        return []
    nested = [one for one in parameters.values() if isinstance(one, Mapping)]
    return nested or [parameters]


def _extended(limit: int, parameters: Mapping[str, Any]) -> int:
    kind, factor = parameters.get("rope_type", "default"), parameters.get("factor")
    # Hunyuan's `dynamic` with an `alpha` is static, and its factor means nothing.
    if kind in _ALREADY_SCALED or not isinstance(factor, int | float) or not math.isfinite(factor):
        return limit
    if kind == "dynamic" and parameters.get("alpha"):
        return limit
    original = _int(parameters.get("original_max_position_embeddings")) if kind == "yarn" else 0
    return int((original or limit) * factor)


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0
