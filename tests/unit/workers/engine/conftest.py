from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny models gain nothing from a second thread, and wait for it on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture
def cuda() -> torch.device:
    """The first GPU. Tests that use it are marked `gpu` and are not selected by default."""
    assert torch.cuda.is_available(), "tests marked `gpu` need a CUDA device and torch with CUDA support"
    return torch.device("cuda:0")
