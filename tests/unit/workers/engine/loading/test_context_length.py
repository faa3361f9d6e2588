from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoConfig, PreTrainedConfig

from shared.errors import SettingsError
from workers.engine.loading.context_length import choose_context_length, context_limit

_LLAMA3: dict[str, Any] = {
    "original_max_position_embeddings": 1000,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
_FACTORS: dict[str, Any] = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}


def config(model_type: str = "llama", *, length: int = 1000, **fields: Any) -> PreTrainedConfig:
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": length}
    return AutoConfig.for_model(model_type, **sizes, **fields)


def scaled(kind: str, factor: float = 4.0, **parameters: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 1e4, "factor": factor, **parameters}}


@pytest.mark.parametrize(
    ("found", "limit"),
    [
        (config(), 1000),
        (config(**scaled("linear")), 4000),
        (config(**scaled("linear", 2.5)), 2500),
        (config(**scaled("dynamic")), 4000),
        (config(**scaled("yarn", original_max_position_embeddings=1000)), 4000),
        # The config may state the extended length already.
        (config(length=4000, **scaled("yarn", original_max_position_embeddings=1000)), 4000),
        (config(length=4000, **scaled("llama3", **_LLAMA3)), 4000),
        (config("phi3", length=4000, original_max_position_embeddings=1000, **scaled("longrope", **_FACTORS)), 4000),
        (config("hunyuan_v1_dense", **scaled("dynamic", alpha=1000.0)), 1000),
        (config("gemma3_text", **scaled("linear", 8.0)), 1000),
        (config("gpt2"), 1000),
        (AutoConfig.for_model("opt", max_position_embeddings=77), 77),
        (AutoConfig.for_model("mpt", max_seq_len=99), 99),
        (AutoConfig.for_model("bloom"), None),
    ],
)  # fmt: skip
def test_limit_is_the_length_times_the_factor(found: PreTrainedConfig, limit: int | None) -> None:
    assert context_limit(found) == limit


def test_a_setting_up_to_the_limit_is_used() -> None:
    yarn = config(**scaled("yarn", original_max_position_embeddings=1000))
    assert choose_context_length(yarn, None) == 4000
    assert choose_context_length(yarn, 4000) == 4000
    assert choose_context_length(yarn, 10) == 10


def test_a_setting_above_the_limit_is_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"BATON_MAX_MODEL_LEN is 1001, but this llama reads at most 1000 tokens"
    ):
        choose_context_length(config(), 1001)


def test_a_longer_length_that_the_config_names_may_be_asked_for() -> None:
    cohere = config("cohere", model_max_length=3000)
    assert choose_context_length(cohere, None) == 1000
    assert choose_context_length(cohere, 3000) == 3000
    # GPT-2 has a table of 1000 positions.
    with pytest.raises(SettingsError):
        choose_context_length(config("gpt2", model_max_length=3000), 3000)


def test_a_model_without_a_length_needs_the_setting() -> None:
    bloom = AutoConfig.for_model("bloom")
    assert choose_context_length(bloom, 300) == 300
    with pytest.raises(SettingsError, match="BATON_MAX_MODEL_LEN"):
        choose_context_length(bloom, None)
