from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from tests.soak.__main__ import load
from tests.soak.pool import make_pool
from tests.soak.soak import Soak, most_at_once
from tests.tiny_chat_model import make_tiny_chat_model
from workers.engine.assembly import make_engine


def test_whatever_comes_and_goes_each_answer_is_the_one_it_has_alone(tmp_path: Path) -> None:
    loaded, config = load(make_tiny_chat_model(tmp_path / "tiny"))
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
