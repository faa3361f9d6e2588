from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.soak.__main__ import load
from tests.soak.pool import make_pool
from tests.soak.soak import Soak, most_at_once
from tests.tiny_chat_model import make_tiny_chat_model
from workers.engine.build import make_engine
from workers.engine.config import DType
from workers.native.ops import has_products

#: A shape that our own products support.
NATIVE_SHAPE = {"hidden_size": 96, "num_attention_heads": 3, "num_key_value_heads": 1}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_under_random_work_each_answer_is_the_same_as_alone(tmp_path: Path, dtype: DType) -> None:
    if dtype == "bfloat16" and not has_products(torch.device("cpu"), torch.bfloat16):
        pytest.skip("this CPU does not support our products")
    shape = NATIVE_SHAPE if dtype == "bfloat16" else {}
    loaded, config = load(make_tiny_chat_model(tmp_path / "tiny", **shape), dtype)
    chance = random.Random(2)
    plain = make_engine(loaded, replace(config, speculation="off"))
    pool = make_pool(plain, chance, 25, len(loaded.tokenizer))
    engine = make_engine(loaded, config)
    soak = Soak(engine, pool, chance)
    for _ in range(300):
        soak.step()
    soak.drain()
    assert soak.num_checked >= 30 and soak.num_aborted and soak.num_continued
    assert engine.stats.cache.saved_tokens and engine.stats.cache.preempted
    assert most_at_once(engine) == most_at_once(make_engine(loaded, config)) > 1
