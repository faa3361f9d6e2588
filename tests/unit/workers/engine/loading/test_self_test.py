from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.models import UNSUPPORTED, tiny_model
from tools.models.tiny import tiny_config
from tools.models.tiny import tiny_model as any_tiny_model
from workers.engine.attention import slots as attention
from workers.engine.attention.slots import UnsupportedModel, slot_attention
from workers.engine.loading import loader
from workers.engine.loading.loader import prepare_model
from workers.engine.loading.model_files import check_architecture


@pytest.mark.parametrize("model_type", UNSUPPORTED)
def test_architecture_that_bypasses_the_interface_is_refused_by_name(model_type: str) -> None:
    with pytest.raises(UnsupportedModel, match=r"(?i)" + model_type[:3]):
        prepare_model(tiny_model(model_type))


def test_a_model_with_other_logits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_window(*args: Any, sliding_window: int | None, **kwargs: Any) -> Any:
        assert sliding_window == 7
        return slot_attention(*args, **kwargs)

    monkeypatch.setattr(attention, "slot_attention", without_window)
    with pytest.raises(UnsupportedModel, match="computes other logits"):
        prepare_model(tiny_model("mistral"), native="off")


def test_weights_that_give_nan_are_named_as_the_reason() -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.get_output_embeddings().weight[3] = float("nan")
    with pytest.raises(
        UnsupportedModel, match=r"LlamaForCausalLM computes logits that are NaN or infinite: .*float32"
    ):
        prepare_model(model)


@pytest.mark.parametrize(
    "model_type", ["qwen3_next", "falcon_h1", "nemotron_h", "lfm2", "zamba2", "deepseek_v32"]
)
def test_hybrids_and_sparse_attention_are_refused_by_name(model_type: str) -> None:
    with pytest.raises(UnsupportedModel, match=rf"^{model_type} has layers that Baton does not run: \w+"):
        check_architecture(tiny_config(model_type))


def test_a_state_besides_keys_and_values_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "check_architecture", lambda _config: None)
    with pytest.raises(UnsupportedModel, match="JambaForCausalLM keeps a state besides keys and values"):
        prepare_model(any_tiny_model("jamba"))
