from __future__ import annotations

import pytest

from shared.errors import SettingsError
from workers.engine.config import EngineConfig


def test_defaults_are_usable() -> None:
    assert EngineConfig("some/model").max_slots == 32


@pytest.mark.parametrize("name", ["max_slots", "max_model_len", "prefill_chunk", "max_kv_tokens", "threads"])
def test_limit_below_one_is_refused_by_name(name: str) -> None:
    changes: dict[str, int] = {name: 0}
    with pytest.raises(SettingsError, match=name):
        EngineConfig("some/model", **changes)  # type: ignore[arg-type]  # names of integer fields


def test_every_slot_must_fit_in_a_step() -> None:
    with pytest.raises(SettingsError, match="max_step_tokens"):
        EngineConfig("some/model", max_slots=64, max_step_tokens=32)
