from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny models gain nothing from a second thread, and wait for it when the machine is busy."""
    torch.set_num_threads(1)


@pytest.fixture
def cuda() -> torch.device:
    """The first GPU. Tests that take it are marked `gpu`: who asks for them has one."""
    assert torch.cuda.is_available(), "tests marked `gpu` need a CUDA device, and a build of torch for it"
    return torch.device("cuda:0")
