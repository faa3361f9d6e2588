from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.workers.engine.sampling_reference import params
from workers.engine.sampling.draw import draw as draw_by_torch
from workers.engine.sampling.native_draw import draw_natively
from workers.engine.sampling.row import SampleRow
from workers.native.draw import MASK_SURPLUS, UNUSABLE, DrawParameters, draw
from workers.native.ops import share_with_helpers

pytestmark = pytest.mark.usefixtures("narrow_build")

DTYPES = [torch.float32, torch.bfloat16]
WIDTHS = [1, 15, 16, 17, 40, 5000, 5003]


def random(num_rows: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(num_rows, width, generator=torch.Generator().manual_seed(seed))


def most_likely(logits: torch.Tensor, masks: torch.Tensor | None = None) -> torch.Tensor:
    zeros = torch.zeros(len(logits))
    parameters = DrawParameters(zeros, zeros, zeros.long(), zeros.double() + 1, zeros.double())
    return draw(logits, parameters, masks)


def masks_of(may_be: torch.Tensor) -> torch.Tensor:
    """Masks with set bits after the last token, which must be ignored."""
    bits = torch.nn.functional.pad(may_be, (0, -may_be.shape[1] % 8 + MASK_SURPLUS), value=True)
    return torch.from_numpy(np.packbits(bits.numpy(), axis=1, bitorder="little"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_most_likely_token_is_the_first_of_the_largest(width: int, dtype: torch.dtype) -> None:
    logits = random(20, width).bfloat16().to(dtype)
    logits[4, [width // 9, width // 2, -1]] = 100.0
    found = most_likely(logits)
    assert torch.equal(found, logits.max(-1).indices)
    assert found[4] == width // 9


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_row_of_nan_or_infinities_is_unusable(width: int, dtype: torch.dtype) -> None:
    logits = random(20, width).to(dtype)
    logits[3, :] = float("-inf")
    logits[4, width // 2] = float("nan")
    logits[5, -1] = float("inf")
    logits[6, 1:] = float("-inf")
    found = most_likely(logits)
    assert (found < 0).nonzero()[:, 0].tolist() == [3, 4, 5]
    assert found[[3, 4, 5]].tolist() == [UNUSABLE] * 3


def test_with_a_mask_only_allowed_infinities_and_any_nan_are_unusable() -> None:
    logits, may_be = random(5, 40), torch.ones(5, 40, dtype=torch.bool)
    may_be[:, 7] = False
    logits[0, 7] = float("inf")
    logits[1, 8] = float("inf")
    logits[2, 7] = float("nan")
    logits[3] = float("-inf")
    found = most_likely(logits, masks_of(may_be))
    assert [token == UNUSABLE for token in found.tolist()] == [False, True, True, False, False]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_most_likely_allowed_token_is_found(width: int, dtype: torch.dtype) -> None:
    logits = random(20, width).bfloat16().to(dtype)
    logits[3, :] = float("-inf")
    may_be = random(20, width, seed=1) > 0
    may_be[5] = False
    may_be[6] = torch.arange(width) == width - 1
    found = most_likely(logits, masks_of(may_be))
    assert torch.equal(found, logits.masked_fill(~may_be, float("-inf")).max(-1).indices)
    assert found[[3, 5, 6]].tolist() == [0, 0, width - 1]


@pytest.mark.parametrize(
    "cut",
    [{}, {"min_p": 0.02}, {"top_k": 40}, {"top_p": 0.9}, {"top_k": 300, "top_p": 0.7}, {"top_p": 0.999}],
    ids=str,
)
@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("width", [40, 5003])
def test_tokens_match_those_drawn_by_torch(width: int, temperature: float, cut: dict[str, Any]) -> None:
    """Except for draws at a boundary where the weights differ in their last bits. Many logits are equal."""
    logits = (random(300, width) * 3).bfloat16()
    rows = [SampleRow(params(seed=seed, temperature=temperature, **cut), 0, 0) for seed in range(300)]
    assert int((draw_natively(logits, rows) != draw_by_torch(logits, rows)).sum()) <= 1


@pytest.mark.parametrize("num_helpers", [1, 3])
def test_tokens_do_not_depend_on_the_threads(num_helpers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = (random(64, 5003) * 3).bfloat16()
    cuts: list[dict[str, Any]] = [{}, {"top_p": 0.95}, {"top_k": 30}, {"temperature": 0.0}]
    rows = [SampleRow(params(seed=seed, **cuts[seed % 4]), 0, 0) for seed in range(64)]
    masks = masks_of(random(64, 5003, seed=1) > -1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    alone = draw_natively(logits, rows, masks)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1 + num_helpers)
    assert torch.equal(draw_natively(logits, rows, masks), alone)
    share_with_helpers(num_helpers)
    try:
        assert all(torch.equal(draw_natively(logits, rows, masks), alone) for _ in range(20))
    finally:
        share_with_helpers(0)
