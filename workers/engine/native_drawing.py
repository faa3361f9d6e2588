"""Native drawing: tokens by an operation of our own, from logits as the model made them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workers.engine.sample_row import MIN_TEMPERATURE, SampleRow, uniforms
from workers.native.drawing import DrawParameters, draw


def draw_natively(logits: Tensor, rows: Sequence[SampleRow], masks: Tensor | None = None) -> Tensor:
    """A Draw, on a CPU with operations of ours. Its exponentials differ from torch's in the last bit."""
    asked = [row.sampling for row in rows]
    parameters = DrawParameters(
        torch.tensor([0.0 if one.is_greedy else max(one.temperature, MIN_TEMPERATURE) for one in asked]),
        torch.tensor([one.min_p for one in asked], dtype=torch.float32),
        torch.tensor([one.top_k or 0 for one in asked], dtype=torch.int64),
        torch.tensor([one.top_p for one in asked], dtype=torch.float64),
        torch.from_numpy(uniforms(rows)),
    )
    return draw(logits, parameters, masks)
