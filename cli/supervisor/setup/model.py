"""Checks that the configured model exists, and estimates the memory that it needs."""

from __future__ import annotations

import json
import os
from pathlib import Path

from cli.errors import StartRefused
from shared.model.gguf_header import BrokenGGUF, GGUFHeader, find_gguf

_WIDTHS = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
_WEIGHTS = ("*.safetensors", "*.bin")


def model_path(model: str) -> Path | None:
    """The directory or GGUF file that BATON_MODEL refers to; None for a hub id. Raises StartRefused."""
    # Unlike Path.expanduser, this bears a user without a home directory.
    path = Path(os.path.expanduser(model))
    if not path.exists():
        if model.startswith((".", "/", "~")) or model.count("/") > 1:
            raise StartRefused(f"BATON_MODEL={model}: no such directory or file")
        return None
    if gguf := find_gguf(path):
        read_header(gguf)
        return path.resolve()
    if not path.is_dir():
        raise StartRefused(f"BATON_MODEL={model} is not a model directory, a GGUF file or a hub id")
    if not (path / "config.json").is_file():
        raise StartRefused(f"BATON_MODEL={model} is not a model directory: it has no config.json")
    return path.resolve()


def read_header(gguf: Path) -> GGUFHeader:
    """Raises StartRefused if the file is damaged or truncated."""
    try:
        return GGUFHeader.read(gguf)
    except BrokenGGUF as error:
        raise StartRefused(str(error)) from error


def weight_bytes(model: Path, dtype: str) -> int:
    """Size of the weights in bytes once they are loaded as `dtype`.

    `auto` counts as the type in which they are stored, or two bytes per weight for a GGUF file, because its weights
    are unpacked. Raises StartRefused if config.json is not a JSON object or a GGUF file is broken.
    """
    if gguf := find_gguf(model):
        return read_header(gguf).num_weights * _WIDTHS.get(dtype, 2)
    stored = max(sum(file.stat().st_size for file in model.glob(pattern)) for pattern in _WEIGHTS)
    return stored * _WIDTHS.get(dtype, _stored_width(model)) // _stored_width(model)


def _stored_width(directory: Path) -> int:
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        return _WIDTHS.get(config.get("dtype") or config.get("torch_dtype"), 2)
    except (ValueError, AttributeError) as error:
        raise StartRefused(f"{directory}/config.json is not a JSON object") from error
