from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.checks.model import check_model, find_model, is_whole
from tests.tiny_chat_model import make_tiny_chat_model
from tests.tiny_gguf import write_tiny_gguf


@pytest.fixture(scope="module")
def whole_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_chat_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def model(whole_model: Path, tmp_path: Path) -> Path:
    """A model for a test to damage."""
    return Path(shutil.copytree(whole_model, tmp_path / "tiny"))


def test_a_whole_one_is_well(model: Path) -> None:
    assert [(finding.level, finding.detail) for finding in check_model(model)] == [("ok", str(model))]


def without(*names: str) -> Callable[[Path], None]:
    def remove(model: Path) -> None:
        for name in names:
            for path in model.glob(name):
                path.unlink()

    return remove


def cut_off(model: Path) -> None:
    with (model / "model.safetensors").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 1)


def with_index(model: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


def without_template(model: Path) -> None:
    without("chat_template.*")(model)
    path = model / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config.pop("chat_template", None)
    path.write_text(json.dumps(config))


def with_template(template: str) -> Callable[[Path], None]:
    def replace(model: Path) -> None:
        (model / "chat_template.jinja").write_text(template)

    return replace


def with_config(**fields: object) -> Callable[[Path], None]:
    def replace(model: Path) -> None:
        path = model / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return replace


@pytest.mark.parametrize(
    ("harm", "level", "words"),
    [
        (without("config.json"), "fail", "is missing or has no model_type"),
        (lambda model: (model / "config.json").write_text("[]"), "fail", "is missing or has no model_type"),
        (without("*.safetensors"), "fail", "no *.safetensors"),
        (cut_off, "fail", "weight files are truncated: model.safetensors"),
        (with_index, "fail", "weight files are missing: model-00002-of-00002.safetensors"),
        (without("tokenizer.json", "tokenizer.model", "vocab.json"), "fail", "no tokenizer"),
        (without_template, "fail", "no chat template"),
        (with_template("{% for m in messages %}{{ m.content }{% endfor %}"), "fail", "chat_template.jinja"),
        (
            with_config(quantization_config={"quant_method": "gptq", "bits": 4}),
            "fail",
            "config.json: quantiz",
        ),
        (with_config(model_type="vit"), "fail", "vit is not a model that generates text"),
        (with_config(hidden_size="wide"), "fail", "config.json is no usable configuration"),
    ],
)
def test_what_is_wrong_is_named(model: Path, harm: Callable[[Path], None], level: str, words: str) -> None:
    harm(model)
    (finding,) = check_model(model)
    assert (finding.level, words in finding.detail, finding.advice != "") == (level, True, True)


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, b"\x02" + b"\0" * 7 + b"[]", b"\x01" + b"\0" * 7 + b"{"]
)
def test_garbage_is_no_safetensors_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert not is_whole(path)


def test_which_model_is_meant(model: Path, tmp_path: Path) -> None:
    assert find_model(str(model), tmp_path) == (model, None)
    assert find_model("", model) == (model, None)
    for named, level in (("", "ok"), ("org/name", "warn"), ("/none/there", "fail")):
        directory, instead = find_model(named, tmp_path / "none")
        assert directory is None and instead is not None and instead.level == level


def test_a_gguf_file_is_well_with_a_chat_template(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_gguf(path)
    assert find_model(str(path), tmp_path) == (path, None)
    assert [(finding.level, finding.detail) for finding in check_model(path)] == [("ok", str(path))]
    path.write_bytes(path.read_bytes().replace(b"tokenizer.chat_template", b"tokenizer.chat_templatX"))
    (finding,) = check_model(path)
    assert (finding.level, "no chat template" in finding.detail) == ("fail", True)
