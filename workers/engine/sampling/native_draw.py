"""Native drawing: tokens by an operation of our own, from logits as the model made them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from workers.engine.sampling.row import MIN_TEMPERATURE, SampleRow, uniforms
from workers.native.draw import DrawParameters, draw


def draw_natively(logits: Tensor, rows: Sequence[SampleRow], masks: Tensor | None = None) -> Tensor:
    """A Draw, on a CPU with operations of ours. Its weights differ from torch's in their last bits."""
    asked = [row.sampling for row in rows]
    parameters = DrawParameters(
        _column(
            [0.0 if one.is_greedy else max(one.temperature, MIN_TEMPERATURE) for one in asked], np.float32
        ),
        _column([one.min_p for one in asked], np.float32),
        _column([one.top_k or 0 for one in asked], np.int64),
        _column([one.top_p for one in asked], np.float64),
        torch.from_numpy(uniforms(rows)),
    )
    return draw(logits, parameters, masks)


def _column(values: list[float], dtype: type[np.generic]) -> Tensor:
    """As `torch.tensor` makes it, in a tenth of the time."""
    return torch.from_numpy(np.array(values, dtype))
