"""Whether a model directory or GGUF file holds what a worker loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cli.checks.finding import Finding
from cli.errors import StartRefused
from cli.supervisor.setup.model import model_path, read_header
from shared.model.gguf_header import find_gguf

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
_INDEX = "model.safetensors.index.json"
_AGAIN = "fetch the model again"


def find_model(model: str, default: Path) -> tuple[Path | None, Finding | None]:
    """The directory or file, or what there is to say instead of one."""
    try:
        directory = model_path(model) if model else default if default.is_dir() else None
    except StartRefused as error:
        return None, Finding(
            "model", "fail", str(error), "set BATON_MODEL to a model directory, GGUF file or hub id"
        )
    if directory is not None:
        return directory, None
    if model:
        return None, Finding(
            "model", "warn", f"{model} is fetched from the hub by each worker", "fetch it first"
        )
    return None, Finding("model", "ok", "the default model, which the first `baton up` fetches")


def check_model(directory: Path) -> list[Finding]:
    """Config, weights, tokenizer, chat template. A GGUF file holds all of them."""
    if gguf := find_gguf(directory):
        return [_check_gguf(gguf)]
    found = [_check_config(directory), _check_weights(directory), _check_tokenizer(directory)]
    wrong = [finding for finding in found if finding is not None]
    return wrong or [Finding("model", "ok", str(directory))]


def _check_gguf(path: Path) -> Finding:
    if "tokenizer.chat_template" not in read_header(path).metadata:
        advice = "take the instruct version of the model"
        return Finding("model", "warn", f"no chat template in {path}: chats are refused", advice)
    return Finding("model", "ok", str(path))


def _check_config(directory: Path) -> Finding | None:
    config = _read(directory / "config.json")
    if config is None or not config.get("model_type"):
        return Finding("model", "fail", f"{directory}/config.json names no model_type", _AGAIN)
    return None


def _check_weights(directory: Path) -> Finding | None:
    files = {path.name: path for path in directory.glob("*.safetensors")}
    index = _read(directory / _INDEX) or {}
    missing = sorted(set(index.get("weight_map", {}).values()) - files.keys())
    damaged = sorted(name for name, path in files.items() if not is_whole(path))
    if not files:
        return Finding(
            "model", "fail", f"no *.safetensors in {directory}", "convert the weights to safetensors"
        )
    if missing or damaged:
        detail = f"weights missing: {', '.join(missing)}" if missing else f"cut off: {', '.join(damaged)}"
        return Finding("model", "fail", detail, _AGAIN)
    return None


def _check_tokenizer(directory: Path) -> Finding | None:
    if not any((directory / name).is_file() for name in _TOKENIZERS):
        return Finding(
            "model", "fail", f"no tokenizer in {directory}", "copy tokenizer.json beside the weights"
        )
    config = _read(directory / "tokenizer_config.json") or {}
    if not (config.get("chat_template") or any(directory.glob("chat_template.*"))):
        advice = "take the instruct version of the model, or add its chat_template.jinja"
        return Finding("model", "warn", "no chat template: chats are refused", advice)
    return None


def is_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its head says (https://huggingface.co/docs/safetensors: eight
    bytes with the head's length, the head as JSON with each tensor's place, the data)."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size:
                return False
            tensors: dict[str, Any] = json.loads(file.read(length))
        ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
        return bool(8 + length + max(ends, default=0) == size)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return False


def _read(path: Path) -> dict[str, Any] | None:
    """None for what is not there, or no JSON object."""
    try:
        read = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return read if isinstance(read, dict) else None
