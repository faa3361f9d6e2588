"""The default model, and the name with which clients request a model."""

from __future__ import annotations

from pathlib import PurePath

#: The model to serve if BATON_MODEL is empty, and its directory under `$BATON_HOME/models`.
DEFAULT_MODEL = "SmolLM2-135M-Instruct"


def model_name_of(path_or_id: str) -> str:
    """Return the last part of a path or hub id: "Qwen3-0.6B" for "Qwen/Qwen3-0.6B". Empty for an empty text."""
    return PurePath(path_or_id).name
