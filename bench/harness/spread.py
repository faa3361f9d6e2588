"""Formats the results of several rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Returns "min / median / max"."""
    figures = (min(values), statistics.median(values), max(values))
    return " / ".join(f"{figure:.{digits}f}" for figure in figures)
