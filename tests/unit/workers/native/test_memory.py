from __future__ import annotations

import gc
import mmap
from pathlib import Path

import pytest
import torch

from workers.native.memory import PAGE, HugePool, HugeZeros


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(0, 4), (3, 5), (PAGE, 2), (3, 1000, 1001)], ids=str)
def test_zeros_of_any_shape_are_zero(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    zeros = HugeZeros(shape, dtype).tensor
    assert torch.equal(zeros, torch.zeros(shape, dtype=dtype))
    assert zeros.is_contiguous()
    zeros.fill_(1)


def test_large_zeros_are_page_aligned_and_freed() -> None:
    before = resident_bytes()
    zeros = HugeZeros((32, PAGE), torch.uint8).tensor.fill_(7)
    assert zeros.data_ptr() % PAGE == 0
    assert resident_bytes() - before > 30 * PAGE
    del zeros
    gc.collect()
    assert resident_bytes() - before < 4 * PAGE


def test_tensors_of_a_pool_do_not_overlap_and_are_aligned() -> None:
    pool = HugePool()
    shapes = [(3,), (1, 1), (100, 100), (0,), (40, PAGE), (5, 7), (33, PAGE)]
    tensors = [pool.empty(shape, torch.bfloat16).fill_(index) for index, shape in enumerate(shapes)]
    for index, (tensor, shape) in enumerate(zip(tensors, shapes, strict=True)):
        assert tensor.shape == shape
        assert tensor.data_ptr() % 64 == 0
        assert (tensor == index).all()


def test_memory_of_a_pool_is_freed_with_its_last_tensor() -> None:
    before = resident_bytes()
    pool = HugePool()
    tensors = [pool.empty((10, PAGE), torch.uint8).fill_(1) for _ in range(6)]
    assert resident_bytes() - before > 55 * PAGE
    tensors = tensors[3:]
    assert 25 * PAGE < resident_bytes() - before < 35 * PAGE
    del tensors, pool
    assert resident_bytes() - before < 4 * PAGE


def test_unwritten_rows_take_no_memory_and_pages_are_released() -> None:
    before = resident_bytes()
    zeros = HugeZeros((4000, PAGE // 2), torch.uint8)
    zeros.tensor[:41].fill_(7)
    assert 19 * PAGE < resident_bytes() - before < 25 * PAGE
    for num_left in range(40, 2, -1):
        zeros.release(num_left)
    assert resident_bytes() - before < 6 * PAGE
    assert (zeros.tensor[:3] == 7).all()
    zeros.tensor[3:5].fill_(1)
    assert zeros.tensor[:6, 0].tolist() == [7, 7, 7, 1, 1, 0]
