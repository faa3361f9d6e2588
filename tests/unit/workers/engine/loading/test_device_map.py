from __future__ import annotations

import logging
from collections import Counter

import pytest
import torch
from transformers import PreTrainedConfig

from tests.models import tiny_model
from workers.engine.loading.device_map import device_map
from workers.engine.loading.free_memory import OutOfMemory

FIRST, SECOND = torch.device("cuda:0"), torch.device("cuda:1")
#: More than the whole model needs: eight layers of 62 kB, and an embedding of 31 kB.
AMPLE = 10_000_000


@pytest.fixture(autouse=True)
def _no_warning_of_absent_gpus() -> None:
    logging.getLogger("accelerate.utils.modeling").setLevel(logging.ERROR)


@pytest.fixture(scope="module")
def config() -> PreTrainedConfig:
    return tiny_model("llama", tie_word_embeddings=True, num_hidden_layers=8).config


def placed(config: PreTrainedConfig, first: int, second: int) -> dict[str, torch.device | int]:
    """The device map for GPUs with these free bytes."""
    free = {FIRST: first, SECOND: second}
    return device_map(config, torch.float32, [FIRST, SECOND], free.__getitem__)


def test_one_device_gets_everything(config: PreTrainedConfig) -> None:
    cpu = torch.device("cpu")
    assert device_map(config, torch.float32, [cpu]) == {"": cpu}


def test_layers_are_distributed_evenly_and_never_split(config: PreTrainedConfig) -> None:
    found = placed(config, AMPLE, AMPLE)
    layers = {f"model.layers.{i}": int(i > 3) for i in range(8)}
    assert found == {
        "model.embed_tokens": 0, "lm_head": 0, **layers, "model.norm": 1, "model.rotary_emb": 1
    }  # fmt: skip


def test_a_gpu_with_less_memory_gets_less(config: PreTrainedConfig) -> None:
    assert Counter(placed(config, 200_000, AMPLE).values())[0] == 3  # embedding, head, one layer
    assert placed(config, AMPLE, 1000) == {"": 0}


def test_a_model_that_does_not_fit_is_refused(config: PreTrainedConfig) -> None:
    with pytest.raises(OutOfMemory, match="llama does not fit into the free memory of cuda:0\\+cuda:1"):
        placed(config, 250_000, 250_000)
