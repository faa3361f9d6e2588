from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from shared.model.gguf_header import BrokenGGUF
from tests.models import write_tiny_model
from tests.tiny_gguf import write_tiny_gguf
from workers.engine.attention.slots import UnsupportedModel
from workers.engine.loading.model_files import ModelFiles, ModelLoadError, reading


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_tiny_gguf(path)
    return path


def test_directory_without_config_or_weights_is_refused(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        ModelFiles(tmp_path).check()
    shutil.copy(directory / "config.json", tmp_path)
    with pytest.raises(ModelLoadError, match="safetensors"):
        ModelFiles(tmp_path).check()


def test_config_of_an_unknown_kind_is_refused(directory: Path, tmp_path: Path) -> None:
    shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no_such_model"}))
    with pytest.raises(ModelLoadError, match="no_such_model"):
        ModelFiles(tmp_path).check()


def test_the_revision_depends_on_the_content_and_not_on_the_path(directory: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(directory, tmp_path / "elsewhere")
    assert ModelFiles(copy).revision() == ModelFiles(directory).revision()
    shutil.copytree(write_tiny_model(tmp_path / "other", seed=1), copy, dirs_exist_ok=True)
    assert ModelFiles(copy).revision() != ModelFiles(directory).revision()


def test_revision_covers_the_tokenizer(directory: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(directory, tmp_path / "elsewhere")
    with (copy / "tokenizer.json").open("a") as file:
        file.write("\n")
    assert ModelFiles(copy).revision() != ModelFiles(directory).revision()


def test_chunked_attention_is_refused_before_weights_are_read(tmp_path: Path) -> None:
    write_tiny_model(tmp_path, "llama4_text")
    with pytest.raises(UnsupportedModel, match="attention_chunk_size"):
        ModelFiles(tmp_path).check()


def test_int8_weights_have_another_revision(directory: Path) -> None:
    files = ModelFiles(directory)
    assert files.revision("none") == files.revision() != files.revision("int8")


def test_a_gguf_file_contains_config_tokenizer_and_template(gguf: Path) -> None:
    files = ModelFiles.find(str(gguf))
    files.check()
    own, theirs = files.tokenizer(), ModelFiles(gguf.parent / "tiny-directory").tokenizer()
    text = "Grüße, 12 <|end|>"
    assert own(text).input_ids == theirs(text).input_ids
    assert (own.eos_token, own.chat_template) == (theirs.eos_token, theirs.chat_template)
    assert (files.config.model_type, files.config.max_position_embeddings) == ("llama", 512)


def test_tokenizers_are_not_shared(gguf: Path) -> None:
    files = ModelFiles(gguf)
    first, second = files.tokenizer(), files.tokenizer()
    first.add_tokens(["<new>"])
    assert len(first) == len(second) + 1 == len(files.pristine_tokenizer) + 1


def test_a_gguf_file_is_found_in_a_directory_without_safetensors(gguf: Path, tmp_path: Path) -> None:
    shutil.copy(gguf, tmp_path)
    assert ModelFiles.find(str(tmp_path)).path == tmp_path / gguf.name
    shutil.copy(gguf, tmp_path / "other.gguf")
    with pytest.raises(ModelLoadError, match=r"no config\.json"):
        ModelFiles.find(str(tmp_path)).check()


def test_safetensors_are_preferred_to_a_gguf_file(directory: Path, gguf: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(directory, tmp_path / "both"))
    shutil.copy(gguf, copy)
    assert not ModelFiles.find(str(copy)).is_gguf


def test_a_missing_gguf_file_is_not_looked_up_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="no such file"):
        ModelFiles.find(str(tmp_path / "none.gguf"))


def test_the_revision_of_a_gguf_file_depends_on_its_content(gguf: Path, tmp_path: Path) -> None:
    content = gguf.read_bytes()
    copy = tmp_path / "renamed.gguf"
    copy.write_bytes(content)
    assert ModelFiles(copy).revision() == ModelFiles(gguf).revision()
    template = content.replace(b"<|end|>{% endfor %}", b"<|END|>{% endfor %}")
    weights = content[:-200] + bytes(255 - byte for byte in content[-200:])
    for changed in (template, weights):
        assert changed != content
        copy.write_bytes(changed)
        assert ModelFiles(copy).revision() != ModelFiles(gguf).revision()


def test_a_gguf_file_that_is_cut_off_is_refused(gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(gguf.read_bytes()[:-1000])
    with pytest.raises(BrokenGGUF, match="cut off"):
        ModelFiles(tmp_path / "cut.gguf").check()


def test_gguf_files_that_transformers_reads_in_part_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scaled.gguf"
    write_tiny_gguf(path, metadata={"llama.rope.scaling.type": "yarn"})
    with pytest.raises(UnsupportedModel, match="scaled rotary"):
        ModelFiles(path).check()
    path.write_bytes(path.read_bytes().replace(b"llama", b"gemma"))
    with pytest.raises(UnsupportedModel, match="'gemma'"):
        ModelFiles(path).check()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"[]"),
        ("config.json", b"{"),
        ("config.json", b"version https://git-lfs.github.com/spec/v1\nsize 7\n"),
        ("generation_config.json", b"7"),
        ("tokenizer_config.json", b"null"),
        ("tokenizer.json", b"\xff"),
        ("model.safetensors", b""),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\nsize 7\n"),
        ("model.safetensors", b"\xff" * 64),
        ("model.safetensors", b"\x02\0\0\0\0\0\0\0[]"),
    ],
)
def test_a_file_that_is_not_of_its_kind_is_refused_by_name(
    directory: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelLoadError, match=re.escape(str(tmp_path / name))):
        ModelFiles(tmp_path).check()


@pytest.mark.parametrize(
    "fields",
    [
        {"mlp_bias": 10**9},
        {"rope_parameters": 2},
        {"quantization_config": True},
        {"initializer_range": float("nan")},
        {"dtype": ""},
        {"text_config": "x"},
        {"max_position_embeddings": -1},
        {"is_encoder_decoder": True},
        {"attention_chunk_size": 8},
    ],
)
def test_a_config_that_cannot_be_used_is_refused_by_name(
    directory: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    config = json.loads((directory / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | fields))
    with pytest.raises((ModelLoadError, UnsupportedModel), match=r"config\.json"):
        ModelFiles(tmp_path).check()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer_config.json", '{"auto_map": -1}'),
        ("tokenizer_config.json", '{"added_tokens_decoder": []}'),
        ("tokenizer.json", '{"model": {"type": "x"}}'),
    ],
)
def test_a_tokenizer_that_cannot_be_loaded_is_refused_by_name(
    directory: Path, tmp_path: Path, name: str, content: str
) -> None:
    shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(
        ModelLoadError, match=r"no usable tokenizer \(tokenizer\.json, tokenizer_config\.json\)"
    ):
        ModelFiles(tmp_path).tokenizer()


def test_missing_memory_is_no_fault_of_a_file() -> None:
    with pytest.raises(MemoryError), reading("x"):
        raise MemoryError
    with pytest.raises(RuntimeError, match="not enough memory"), reading("x"):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 7 bytes.")


def edit_config(directory: Path, **fields: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("quantization", "reason"),
    [
        ({"quant_method": "gptq", "bits": 4}, "optimum"),
        ({"quant_method": "awq", "bits": 4}, "gptqmodel"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "nonsense"}, "nonsense"),
        ({"bits": 4}, "quant_method"),
    ],
)
def test_quantized_weights_that_cannot_be_read_here_are_refused(
    directory: Path, tmp_path: Path, quantization: dict[str, object], reason: str
) -> None:
    copy = Path(shutil.copytree(directory, tmp_path / "quantized"))
    edit_config(copy, quantization_config=quantization)
    with pytest.raises(
        ModelLoadError, match=rf"config\.json: quantization_config cannot be used: .*{reason}"
    ):
        ModelFiles(copy).check()


def test_files_that_are_no_whole_model_are_named(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelLoadError, match="it is an adapter"):
        ModelFiles(tmp_path).check()
    copy = Path(shutil.copytree(directory, tmp_path / "copy"))
    index = copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00002-of-00002.safetensors"}}))
    with pytest.raises(ModelLoadError, match=r"index\.json names weights that are missing: model-00002"):
        ModelFiles(copy).check()
    index.write_text('{"weight_map": ["a"]}')
    with pytest.raises(ModelLoadError, match=r"index\.json has no weight_map"):
        ModelFiles(copy).check()
    index.unlink()
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match=r"no safetensors weights: convert pytorch_model\.bin"):
        ModelFiles(copy).check()
    (copy / "model.safetensors").mkdir()
    with pytest.raises(ModelLoadError, match=r"model\.safetensors cannot be read"):
        ModelFiles(copy).check()


def test_a_model_that_generates_no_text_is_refused(directory: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(directory, tmp_path / "vision"))
    edit_config(copy, model_type="vit")
    with pytest.raises(ModelLoadError, match=r"config\.json: vit is not a model that generates text"):
        ModelFiles(copy).check()
