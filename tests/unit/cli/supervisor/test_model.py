from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.errors import StartRefused
from cli.supervisor.model import model_directory, weight_bytes


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"dtype": "bfloat16"}))
    (tmp_path / "a.safetensors").write_bytes(b"x" * 600)
    (tmp_path / "b.safetensors").write_bytes(b"x" * 400)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 990)
    return tmp_path


def test_a_directory_is_found_a_hub_id_is_none(model: Path) -> None:
    assert model_directory(str(model)) == model
    assert model_directory("org/some-model") is None
    assert model_directory("gpt2") is None


@pytest.mark.parametrize("name", ["/no/such", "./no-such", "~/no-such", "a/b/c"])
def test_a_path_that_leads_nowhere(name: str) -> None:
    with pytest.raises(StartRefused, match="no such directory"):
        model_directory(name)


def test_a_directory_without_config(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match=r"no config\.json"):
        model_directory(str(tmp_path))


def test_a_file(model: Path) -> None:
    with pytest.raises(StartRefused, match="is a file"):
        model_directory(str(model / "a.safetensors"))


def test_weights_count_in_the_type_they_are_loaded_as(model: Path) -> None:
    sizes = {dtype: weight_bytes(model, dtype) for dtype in ("auto", "float32", "bfloat16", "float16")}
    assert sizes == {"auto": 1000, "float32": 2000, "bfloat16": 1000, "float16": 1000}


@pytest.mark.parametrize("text", ["", "[1]", "nonsense"])
def test_a_config_that_is_none(model: Path, text: str) -> None:
    (model / "config.json").write_text(text)
    with pytest.raises(StartRefused, match=r"config\.json is not a JSON object"):
        weight_bytes(model, "auto")
