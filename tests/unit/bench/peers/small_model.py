"""A small random model."""

from __future__ import annotations

from pathlib import Path

from bench.peers.weights.random_model import Shape, write_random_model

SMALL = Shape(vocabulary=400, hidden=64, feed_forward=96, layers=2, heads=4, kv_heads=2)


def write_small_model(directory: Path) -> Path:
    write_random_model(directory, SMALL)
    return directory
