from __future__ import annotations

from pathlib import Path

from bench.equality import Equality
from tests.tiny_chat_model import make_tiny_chat_model
from workers.engine.config import EngineConfig
from workers.engine.loading.loader import load_model


def test_short_run_goes_every_way_and_finds_no_difference(tmp_path: Path) -> None:
    model = make_tiny_chat_model(tmp_path / "tiny")
    config = EngineConfig(str(model), dtype="float32", threads=1, max_kv_tokens=65536)
    verdicts = list(Equality(load_model(config), config, number=15, num_tokens=30).verdicts())
    assert [verdict.is_equal for verdict in verdicts] == [True] * 6
    *whole, continued, copied = verdicts
    assert all(verdict.tokens == 450 for verdict in (*whole, copied))
    assert 337 <= continued.tokens < 450
    assert not any(verdict.proof.startswith("0 ") for verdict in verdicts)
