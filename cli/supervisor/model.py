"""The model that the workers are told to serve: is it there, and how much memory does it need?"""

from __future__ import annotations

import json
from pathlib import Path

from cli.errors import StartRefused

_WIDTHS = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")


def model_directory(model: str) -> Path | None:
    """The directory that a setting names; None for a hub id. Raises StartRefused for an unusable one."""
    path = Path(model).expanduser()
    if not path.exists():
        if model.startswith((".", "/", "~")) or model.count("/") > 1:
            raise StartRefused(f"BATON_MODEL={model}: there is no such directory")
        return None
    if not path.is_dir():
        raise StartRefused(f"BATON_MODEL={model} is a file; a model directory or a hub id is needed")
    if not (path / "config.json").is_file():
        raise StartRefused(f"BATON_MODEL={model} has no config.json, so it is no model directory")
    return path.resolve()


def weight_bytes(directory: Path, dtype: str) -> int:
    """Bytes of the weights once they are loaded as `dtype`. `auto` counts as the type they are stored in.

    Raises StartRefused when config.json is no JSON object.
    """
    stored = max(sum(file.stat().st_size for file in directory.glob(pattern)) for pattern in _WEIGHTS)
    return stored * _WIDTHS.get(dtype, _stored_width(directory)) // _stored_width(directory)


def _stored_width(directory: Path) -> int:
    try:
        config = json.loads((directory / "config.json").read_text())
        return _WIDTHS.get(config.get("dtype") or config.get("torch_dtype"), 2)
    except (ValueError, AttributeError) as error:
        raise StartRefused(f"{directory}/config.json is not a JSON object") from error
