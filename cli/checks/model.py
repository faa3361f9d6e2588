"""Checks that a model directory or GGUF file has everything that a worker loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cli.checks.finding import Finding
from cli.errors import StartRefused
from cli.supervisor.setup.model import model_path, read_header
from shared.model.gguf_header import find_gguf

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
_INDEX = "model.safetensors.index.json"
#: Limit for the worker's checks, which import torch.
_CHECK_S = 120
_DOWNLOAD_AGAIN = "download the model again"


def find_model(model: str, default: Path) -> tuple[Path | None, Finding | None]:
    """The directory or file to check, or a finding if there is none."""
    try:
        directory = model_path(model) if model else default if default.is_dir() else None
    except StartRefused as error:
        return None, Finding(
            "model", "fail", str(error), "set BATON_MODEL to a model directory, a GGUF file or a hub id"
        )
    if directory is not None:
        return directory, None
    if model:
        advice = f"run `hf download {model}` first"
        return None, Finding("model", "warn", f"each worker will download {model} from the hub", advice)
    return None, Finding("model", "ok", "the default model; the first `baton up` downloads it")


def check_model(directory: Path) -> list[Finding]:
    """Checks config, weights, tokenizer and chat template. A GGUF file contains all of them.

    What these checks let pass is shown to the worker's own.
    """
    found = [_check_gguf(gguf)] if (gguf := find_gguf(directory)) else _check_directory(directory)
    is_well = all(finding.level == "ok" for finding in found)
    return (is_well and _refusals(directory)) or found


def _refusals(model: Path) -> list[Finding]:
    """What a worker says of the model's files if it refuses them."""
    command = [sys.executable, "-m", "workers.model_check", str(model)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_CHECK_S, check=False, encoding="utf-8"
    )
    if done.returncode == 0:
        return []
    said = (done.stdout.strip() or done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
    return [Finding("model", "fail", said, "a worker refuses this model: use another one")]


def _check_directory(directory: Path) -> list[Finding]:
    found = [_check_config(directory), _check_weights(directory), _check_tokenizer(directory)]
    wrong = [finding for finding in found if finding is not None]
    return wrong or [Finding("model", "ok", str(directory))]


def _check_gguf(path: Path) -> Finding:
    if "tokenizer.chat_template" not in read_header(path).metadata:
        advice = "use the instruct version of the model"
        return Finding("model", "fail", f"{path} has no chat template", advice)
    return Finding("model", "ok", str(path))


def _check_config(directory: Path) -> Finding | None:
    config = _read(directory / "config.json")
    if config is None or not config.get("model_type"):
        return Finding(
            "model", "fail", f"{directory}/config.json is missing or has no model_type", _DOWNLOAD_AGAIN
        )
    return None


def _check_weights(directory: Path) -> Finding | None:
    files = {path.name: path for path in directory.glob("*.safetensors")}
    index = _read(directory / _INDEX) or {}
    missing = sorted(set(index.get("weight_map", {}).values()) - files.keys())
    damaged = sorted(name for name, path in files.items() if not is_whole(path))
    if not files:
        return Finding(
            "model", "fail", f"{directory} has no *.safetensors file", "convert the weights to safetensors"
        )
    if missing or damaged:
        names = ", ".join(missing or damaged)
        detail = f"weight files are missing: {names}" if missing else f"weight files are truncated: {names}"
        return Finding("model", "fail", detail, _DOWNLOAD_AGAIN)
    return None


def _check_tokenizer(directory: Path) -> Finding | None:
    if not any((directory / name).is_file() for name in _TOKENIZERS):
        return Finding(
            "model", "fail", f"{directory} has no tokenizer", "copy tokenizer.json into the directory"
        )
    config = _read(directory / "tokenizer_config.json") or {}
    if not (config.get("chat_template") or any(directory.glob("chat_template.*"))):
        advice = "use the instruct version of the model, or add its chat_template.jinja"
        return Finding("model", "fail", f"{directory} has no chat template", advice)
    return None


def is_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says.

    The format (https://huggingface.co/docs/safetensors) is eight bytes with the header's length, the header as JSON
    with each tensor's offsets, then the data.
    """
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
    """None if the file is missing or is not a JSON object."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return read if isinstance(read, dict) else None
