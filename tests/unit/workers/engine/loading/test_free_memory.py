from __future__ import annotations

import pytest
import torch

from workers.engine.loading import free_memory
from workers.engine.loading.free_memory import free_bytes, kv_tokens

CPU = torch.device("cpu")


def test_tokens_use_a_share_of_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_bytes(CPU) > 1 << 20
    monkeypatch.setattr(free_memory, "free_bytes", lambda _device: 1000)
    assert kv_tokens({CPU: 10}) == 60
    assert kv_tokens({CPU: 10}, memory_share=0.5) == 30
    # Layers on two devices: the one that fills up first counts.
    assert kv_tokens({CPU: 10, torch.device("meta"): 20}) == 30


def test_memory_that_torch_caches_on_a_gpu_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = {"mem_get_info": (500, 9000), "memory_reserved": 300, "memory_allocated": 100}
    for name, value in readings.items():
        monkeypatch.setattr(torch.cuda, name, {torch.device("cuda:1"): value}.__getitem__)
    assert free_bytes(torch.device("cuda:1")) == 700
