from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shared.domain.sampling import SamplingParams
from shared.errors import BatonError, SettingsError
from shared.host.cores import available_cores
from tests.int8 import needs_int8
from tests.models import tiny_model, write_tiny_model
from tests.tiny_gguf import write_tiny_gguf
from workers.engine.attention.slots import UnsupportedModel
from workers.engine.build import make_engine
from workers.engine.config import EngineConfig, Quant
from workers.engine.linear.int8 import Int8Linear
from workers.engine.loading.loader import (
    MissingChatTemplate,
    load_model,
    prepare_model,
    require_chat_template,
    resolve_dtype,
)
from workers.engine.loading.model_files import ModelFiles, ModelLoadError
from workers.engine.loading.threads import default_threads, use_threads
from workers.engine.resolved_request import ResolvedRequest
from workers.native.ops import compute_threads, has_int8_products, has_products, share_with_helpers


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def test_loaded_model_generates(directory: Path) -> None:
    progress: list[tuple[int, int]] = []
    config = EngineConfig(str(directory), dtype="float32", threads=1, max_model_len=100)
    loaded = load_model(config, lambda done, total: progress.append((done, total)))
    assert loaded.max_model_len == 100
    assert loaded.stop_token_ids == (loaded.tokenizer.eos_token_id,)
    assert loaded.revision == ModelFiles(directory).revision()
    done, total = progress[-1]
    assert done == total > 10
    engine = make_engine(loaded, config)
    sampling = SamplingParams(max_tokens=5, seed=0, temperature=0)
    engine.add("r", ResolvedRequest(((1, 2, 3),), sampling, loaded.stop_token_ids, loaded.revision))
    while engine.has_work:
        last = engine.step()
    assert last[0].is_last and last[0].error is None


def test_a_longer_context_than_the_models_is_refused(directory: Path) -> None:
    with pytest.raises(
        SettingsError, match="BATON_MAX_MODEL_LEN is 513, but this llama reads at most 512 tokens"
    ):
        load_model(EngineConfig(str(directory), dtype="float32", threads=1, max_model_len=513))


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


def test_auto_dtype_depends_on_the_device() -> None:
    config = tiny_model("llama").config
    assert resolve_dtype("bfloat16", torch.device("cpu"), config) == torch.bfloat16
    assert resolve_dtype("auto", torch.device("cpu"), config) in (torch.float32, torch.bfloat16)
    config.dtype = torch.float16
    assert resolve_dtype("auto", torch.device("cuda"), config) == torch.float16


def test_torchs_threads_leave_one_core_free() -> None:
    assert default_threads(are_own=False) == max(1, available_cores() - 1)
    assert default_threads(are_own=True) == available_cores()


@pytest.mark.parametrize(("model_type", "head_dim"), [("llama", 8), ("qwen2", 8), ("qwen3", 128)])
def test_a_gguf_file_computes_the_same_as_its_directory(
    model_type: str, head_dim: int, tmp_path: Path
) -> None:
    other = write_tiny_gguf(tmp_path / "tiny.gguf", model_type, head_dim=head_dim)
    progress: list[tuple[int, int]] = []
    found = [
        load_model(EngineConfig(str(path), dtype="float32", threads=1), lambda *now: progress.append(now))
        for path in (tmp_path / "tiny.gguf", other)
    ]
    assert found[0].fingerprint.digest == found[1].fingerprint.digest
    assert found[0].stop_token_ids == found[1].stop_token_ids
    assert found[0].max_model_len == found[1].max_model_len == 512
    assert progress[0] == (1, progress[0][1]) and progress[0][1] > 10


def test_a_gguf_file_with_an_extra_tensor_is_refused(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf", extra="blk.0.attn_q.bias")
    with pytest.raises(UnsupportedModel, match="tensors, but LlamaForCausalLM expects"):
        load_model(EngineConfig(str(tmp_path / "tiny.gguf"), threads=1))


def test_missing_or_misshapen_weights_are_refused(directory: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(directory, tmp_path / "copy"))
    fields = json.loads((copy / "config.json").read_text())
    for name, value in (("num_hidden_layers", 4), ("intermediate_size", 72)):
        (copy / "config.json").write_text(json.dumps({**fields, name: value, "layer_types": None}))
        with pytest.raises(ModelLoadError, match=r"missing or have the wrong shape.*model\.layers"):
            load_model(EngineConfig(str(copy), threads=1))


@needs_int8
def test_int8_has_its_own_revision_and_fingerprint_and_is_exact(directory: Path) -> None:
    plain, rounded = (
        load_model(EngineConfig(str(directory), dtype="float32", quant=quant, threads=1))
        for quant in ("none", "int8")
    )
    assert isinstance(rounded.model.lm_head, Int8Linear)
    assert (plain.fingerprint.quant, rounded.fingerprint.quant) == ("none", "int8")
    assert plain.revision != rounded.revision == rounded.fingerprint.model_revision
    assert plain.fingerprint.id != rounded.fingerprint.id
    assert rounded.is_exact


@pytest.mark.parametrize("quant", ["none", "int8"])
def test_our_products_use_our_own_threads(quant: Quant) -> None:
    config = EngineConfig("model", dtype="bfloat16", quant=quant, threads=3)
    device, before = torch.device("cpu"), torch.get_num_threads()
    has_own = {"none": has_products, "int8": has_int8_products}[quant](device, torch.bfloat16)
    try:
        use_threads(config, device, torch.bfloat16)
        assert (torch.get_num_threads(), compute_threads()) == (1 if has_own else 3, 3)
        use_threads(replace(config, native="off"), device, torch.bfloat16)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
        if has_own:
            share_with_helpers(0)


def test_int8_is_refused_if_the_cpu_cannot_compute_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.engine.loading.loader.can_pack", lambda *_: False)
    with pytest.raises(UnsupportedModel, match="BATON_QUANT=none"):
        prepare_model(tiny_model("llama"), "int8")
