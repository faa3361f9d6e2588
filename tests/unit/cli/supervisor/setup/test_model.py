from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from cli.errors import StartRefused
from cli.supervisor.setup.model import model_path, weight_bytes


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"dtype": "bfloat16"}))
    (tmp_path / "a.safetensors").write_bytes(b"x" * 600)
    (tmp_path / "b.safetensors").write_bytes(b"x" * 400)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 990)
    return tmp_path


def test_a_directory_is_found_a_hub_id_is_none(model: Path) -> None:
    assert model_path(str(model)) == model
    assert model_path("org/some-model") is None
    assert model_path("gpt2") is None


@pytest.mark.parametrize("name", ["/no/such", "./no-such", "~/no-such", "a/b/c"])
def test_a_path_that_leads_nowhere(name: str) -> None:
    with pytest.raises(StartRefused, match="no such directory or file"):
        model_path(name)


def test_a_directory_without_config(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match=r"no config\.json"):
        model_path(str(tmp_path))


def test_a_file(model: Path) -> None:
    with pytest.raises(StartRefused, match="is not a model directory, a GGUF file or a hub id"):
        model_path(str(model / "a.safetensors"))


def test_weights_count_in_the_type_they_are_loaded_as(model: Path) -> None:
    sizes = {dtype: weight_bytes(model, dtype) for dtype in ("auto", "float32", "bfloat16", "float16")}
    assert sizes == {"auto": 1000, "float32": 2000, "bfloat16": 1000, "float16": 1000}


@pytest.mark.parametrize("text", ["", "[1]", "nonsense"])
def test_a_config_that_is_none(model: Path, text: str) -> None:
    (model / "config.json").write_text(text)
    with pytest.raises(StartRefused, match=r"config\.json is not a JSON object"):
        weight_bytes(model, "auto")


def test_a_gguf_file_counts_its_weights_in_the_type_they_are_unpacked_to(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_gguf(path)
    assert model_path(str(path)) == path and model_path(str(tmp_path)) == tmp_path
    for named in (path, tmp_path):
        assert (weight_bytes(named, "auto"), weight_bytes(named, "float32")) == (128, 256)


def test_a_broken_gguf_file(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(StartRefused, match="is damaged"):
        model_path(str(path))


def write_gguf(path: Path) -> None:
    writer = GGUFWriter(path, "llama")
    writer.add_tensor("token_embd.weight", np.ones((2, 32), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_user_without_a_home_directory_is_told_that_it_is_not_there() -> None:
    """`~nobody-there` has none, as a container's user may."""
    with pytest.raises(StartRefused, match="no such directory or file"):
        model_path("~nobody-there/model")
