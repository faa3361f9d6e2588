from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from shared.errors import BatonError
from shared.job import ResolvedRequest
from shared.sampling import SamplingParams
from tests.models import tiny_model, write_tiny_model
from workers.engine.attention import UnsupportedModel
from workers.engine.config import EngineConfig
from workers.engine.engine import make_engine
from workers.engine.loader import (
    MissingChatTemplate,
    ModelLoadError,
    available_cores,
    default_threads,
    load_model,
    model_revision,
    read_config,
    require_chat_template,
    resolve_dtype,
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def test_loaded_model_generates(directory: Path) -> None:
    progress: list[tuple[int, int]] = []
    config = EngineConfig(str(directory), dtype="float32", threads=1, max_model_len=100)
    loaded = load_model(config, lambda done, total: progress.append((done, total)))
    assert loaded.max_model_len == 100
    assert loaded.stop_token_ids == (loaded.tokenizer.eos_token_id,)
    assert loaded.revision == model_revision(directory)
    done, total = progress[-1]
    assert done == total > 10
    engine = make_engine(loaded, config)
    sampling = SamplingParams(max_tokens=5, seed=0, temperature=0)
    engine.add("r", ResolvedRequest((1, 2, 3), sampling, loaded.stop_token_ids, loaded.revision))
    while engine.has_work:
        last = engine.step()
    assert last[0].is_last and last[0].error is None


def test_directory_without_config_or_weights_is_refused(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        read_config(tmp_path)
    shutil.copy(directory / "config.json", tmp_path)
    with pytest.raises(ModelLoadError, match="safetensors"):
        read_config(tmp_path)


def test_config_of_an_unknown_kind_is_refused(directory: Path, tmp_path: Path) -> None:
    shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no_such_model"}))
    with pytest.raises(ModelLoadError, match="no_such_model"):
        read_config(tmp_path)


def test_missing_tokenizer_is_refused(directory: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "generation_config.json"):
        shutil.copy(directory / name, tmp_path)
    with pytest.raises(BatonError):
        load_model(EngineConfig(str(tmp_path), threads=1))


def test_missing_chat_template_is_refused(directory: Path) -> None:
    tokenizer = load_model(EngineConfig(str(directory), threads=1)).tokenizer
    require_chat_template(tokenizer)
    tokenizer.chat_template = None
    with pytest.raises(MissingChatTemplate):
        require_chat_template(tokenizer)


def test_revision_is_that_of_the_content_wherever_it_lies(directory: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(directory, tmp_path / "elsewhere")
    assert model_revision(copy) == model_revision(directory)
    shutil.copytree(write_tiny_model(tmp_path / "other", seed=1), copy, dirs_exist_ok=True)
    assert model_revision(copy) != model_revision(directory)


def test_revision_covers_the_tokenizer(directory: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(directory, tmp_path / "elsewhere")
    with (copy / "tokenizer.json").open("a") as file:
        file.write("\n")
    assert model_revision(copy) != model_revision(directory)


def test_named_dtype_is_taken_and_auto_depends_on_the_device() -> None:
    config = tiny_model("llama").config
    assert resolve_dtype("bfloat16", torch.device("cpu"), config) == torch.bfloat16
    assert resolve_dtype("auto", torch.device("cpu"), config) in (torch.float32, torch.bfloat16)
    config.dtype = torch.float16
    assert resolve_dtype("auto", torch.device("cuda"), config) == torch.float16


def test_one_core_is_left_to_others_where_there_are_several() -> None:
    assert default_threads() == max(1, available_cores() - 1)


def test_chunked_attention_is_refused_before_weights_are_read(tmp_path: Path) -> None:
    write_tiny_model(tmp_path, "llama4_text")
    with pytest.raises(UnsupportedModel, match="attention_chunk_size"):
        read_config(tmp_path)
