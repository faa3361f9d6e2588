"""workers.requests.generation_defaults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.errors import BatonError
from workers.requests.generation_defaults import Defaults, GenerationConfig


def read(directory: Path, **fields: Any) -> GenerationConfig:
    (directory / "generation_config.json").write_text(json.dumps(fields))
    return GenerationConfig(directory)


def test_without_a_file_nothing_is_recommended(tmp_path: Path) -> None:
    config = GenerationConfig(tmp_path)
    assert (config.defaults, config.eos_token_ids) == (Defaults(), frozenset())


def test_what_is_recommended_is_taken(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        temperature=0.6,
        top_p=0.95,
        top_k=20,
        min_p=0.05,
        repetition_penalty=1.05,
        max_new_tokens=2048,
        eos_token_id=[7, 8],
    )
    assert config.defaults == Defaults(0.6, 0.95, 20, 0.05, 1.05, 2048)
    assert config.eos_token_ids == {7, 8}
    assert read(tmp_path, eos_token_id=7).eos_token_ids == {7}


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"do_sample": False, "temperature": 0.6}])
def test_greedy_is_greedy(tmp_path: Path, fields: dict[str, Any]) -> None:
    assert read(tmp_path, **fields).defaults.temperature == 0


@pytest.mark.parametrize("value", [None, 0, -1])
def test_no_top_k_is_all(tmp_path: Path, value: int | None) -> None:
    assert read(tmp_path, top_k=value, temperature=None, do_sample=True).defaults == Defaults()


@pytest.mark.parametrize("fields", [{"temperature": "hot"}, {"top_p": 2}, {"min_p": True}])
def test_nonsense_is_named(tmp_path: Path, fields: dict[str, Any]) -> None:
    config = read(tmp_path, **fields)
    with pytest.raises(BatonError, match=next(iter(fields))):
        _ = config.defaults


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(BatonError, match="not JSON"):
        GenerationConfig(tmp_path)


@pytest.mark.parametrize("value", [-1.5, "7", {"a": 1}, [7, "8"]])
def test_an_end_token_that_is_no_id_is_refused_by_name(tmp_path: Path, value: Any) -> None:
    with pytest.raises(BatonError, match=r"generation_config\.json: eos_token_id"):
        _ = read(tmp_path, eos_token_id=value).eos_token_ids


@pytest.mark.parametrize("text", ["7", "[]", "null"])
def test_a_file_without_an_object_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(BatonError, match=r"generation_config\.json"):
        GenerationConfig(tmp_path)
