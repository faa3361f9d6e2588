"""Draws tokens from logits on a CPU, by drawing.h."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch

from workers.native.ops import compute_threads, loaded_library
from workers.native.structs import DrawingArguments

#: Drawn from a row of logits that are NaN or infinite.
UNUSABLE = -1
#: A token mask has at least this many bits more than there are tokens.
MASK_SURPLUS = 16
#: Every integer of up to this many bits is a float64.
_EXACT_BITS = 52
#: Bytes of a token while it is sorted.
_RANKED_BYTES = 16


@dataclass(frozen=True, slots=True)
class DrawParameters:
    """Parameters of each row's draw, [rows] each, as in `workers.engine.sampling.draw`."""

    #: float32; 0: the most likely token.
    temperature: torch.Tensor
    #: float32
    min_p: torch.Tensor
    #: int64; 0: all.
    top_k: torch.Tensor
    #: float64
    top_p: torch.Tensor
    #: float64
    uniform: torch.Tensor


def weight_bits(num_tokens: int) -> int:
    """The most likely token has a weight of 2 to this power, so that the sum of all weights is exact in a
    float64."""
    return _EXACT_BITS - (num_tokens - 1).bit_length()


def draw(logits: torch.Tensor, parameters: DrawParameters, masks: torch.Tensor | None = None) -> torch.Tensor:
    """Draw a token per row from logits [rows, tokens]. Returns int64 [rows].

    `masks`: uint8 [rows, n], a bit for each token that may be drawn, followed by at least MASK_SURPLUS bits.
    Token 0 is the lowest bit of the first byte. None: every token may be drawn. A row without drawable tokens
    yields token 0. A row that contains a NaN, whose largest logit is infinite, or whose logits are all minus infinity
    without a mask, yields UNUSABLE.
    """
    logits = logits.contiguous()
    rows, width = logits.shape
    assert masks is None or 8 * masks.shape[1] >= width + MASK_SURPLUS
    # Reading a mask costs half as much as reading the logits, so unconstrained rows skip it.
    is_barred = None if masks is None else torch.from_numpy((masks.numpy() != 0xFF).any(axis=1))
    threads = compute_threads()
    is_cut = bool((parameters.top_k > 0).any() or (parameters.top_p < 1).any())
    workspace = torch.empty(threads, width if is_cut else 0, _RANKED_BYTES, dtype=torch.uint8)
    drawn = torch.empty(rows, dtype=torch.int64)
    arguments = DrawingArguments(
        logits=logits.data_ptr(),
        masks=None if masks is None else masks.data_ptr(),
        is_barred=None if is_barred is None else is_barred.data_ptr(),
        temperatures=parameters.temperature.data_ptr(),
        min_p=parameters.min_p.data_ptr(),
        top_k=parameters.top_k.data_ptr(),
        top_p=parameters.top_p.data_ptr(),
        uniform=parameters.uniform.data_ptr(),
        drawn=drawn.data_ptr(),
        workspace=workspace.data_ptr(),
        rows=rows,
        width=width,
        mask_width=0 if masks is None else masks.shape[1],
        bits=weight_bits(width),
        threads=threads,
    )
    loaded_library().function("draw", logits.dtype)(ctypes.byref(arguments))
    return drawn
