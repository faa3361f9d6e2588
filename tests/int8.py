"""Int8: some CPUs add products of 8 bits in 16 and saturate. On those an int8 start is refused."""

from __future__ import annotations

import functools

import pytest
import torch

from workers.engine.linear.int8 import Int8Packer, WrongProduct
from workers.engine.linear.onednn import can_pack


@functools.lru_cache(1)
def is_int8_served() -> bool:
    """Whether an int8 model may start on this CPU."""
    if not can_pack(torch.device("cpu"), torch.float32):
        return False
    try:
        Int8Packer().pack(torch.randn(64, 96, generator=torch.Generator().manual_seed(0)), None)
    except WrongProduct:
        return False
    return True


#: For what only a CPU shows that computes them right.
needs_int8 = pytest.mark.skipif(
    not is_int8_served(), reason="NOT TESTED: this CPU saturates products of 8 bits, int8 is refused on it"
)
