"""Threads that share an operation: no item is lost or done twice, whenever threads arrive."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from workers.native import build
from workers.native.ops import (
    HeadShape,
    SiluGate,
    SlotAttention,
    compute_threads,
    native_library,
    share_with_helpers,
)

pytestmark = pytest.mark.skipif(native_library() is None, reason="no C compiler here")
SHAPE = HeadShape(6, 3, 32)
ROWS = torch.tensor([[row, 1, row, 5 * row] for row in range(20)])


@pytest.fixture(params=[1, 3, 40])
def helpers(request: pytest.FixtureRequest) -> Iterator[int]:
    share_with_helpers(request.param)
    yield request.param
    share_with_helpers(0)


def attend(seed: int = 0, times: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(6, 20, 32, generator=generator)
    keys, values = (torch.randn(20, 3, 128, 32, generator=generator) for _ in range(2))
    operation, mixed = SlotAttention(SHAPE, torch.float32, 0.2), torch.empty(20, 6, 32)
    for _ in range(times):
        mixed.fill_(float("nan"))
        operation(queries, (keys, values), ROWS, mixed)
    return mixed


@pytest.fixture
def alone() -> torch.Tensor:
    """The result of a single thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return attend()
    finally:
        torch.set_num_threads(before)


def test_helpers_compute_the_same_as_one_thread(alone: torch.Tensor, helpers: int) -> None:
    assert compute_threads() == helpers + 1
    for _ in range(100):
        assert torch.equal(attend(times=3), alone)


def test_sleeping_helpers_are_woken(alone: torch.Tensor, helpers: int) -> None:
    assert helpers
    for _ in range(10):
        threading.Event().wait(0.005)
        assert torch.equal(attend(), alone)


def test_concurrent_callers_get_their_own_results(helpers: int) -> None:
    assert helpers
    expected = [attend(seed) for seed in range(4)]
    found: list[torch.Tensor | None] = [None] * 4

    def call(seed: int) -> None:
        found[seed] = attend(seed, times=200)

    callers = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all(
        got is not None and torch.equal(got, wanted) for got, wanted in zip(found, expected, strict=True)
    )


def computes_in_child(expected: torch.Tensor) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads exist
        child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(attend(), expected) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_forked_child_computes_without_helpers(alone: torch.Tensor, helpers: int) -> None:
    assert helpers
    assert computes_in_child(alone)


def test_a_forked_child_does_not_wait_for_torchs_threads(alone: torch.Tensor) -> None:
    share_with_helpers(1)
    share_with_helpers(0)
    assert torch.equal(attend(), alone)  # uses those threads
    assert computes_in_child(alone)


#: Forks while two items of an operation of two threads are left. Exits with 0 if the child has none to take.
FORK_IN_AN_OPERATION = """
#include <sys/wait.h>
#include <unistd.h>
#include "ops.c"

int main(void) {
    int status;
    use_helpers(0);
    atomic_store(&pool.offer, OFFER(1, 2, 2));
    pid_t child = fork();
    if (child == 0) _exit(take_item(1));
    return waitpid(child, &status, 0) != child || status != 0;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_a_child_forked_in_an_operation_has_none_of_its_items(tmp_path: Path) -> None:
    program = tmp_path / "fork"
    sources = Path(build.__file__).with_name("csrc")
    command = [
        "cc",
        "-std=gnu11",
        "-O1",
        "-w",
        "-x",
        "c",
        "-",
        f"-I{sources}",
        "-o",
        str(program),
        "-lm",
        "-pthread",
    ]
    subprocess.run(command, input=FORK_IN_AN_OPERATION, text=True, check=True)
    assert subprocess.run([program], timeout=10).returncode == 0


def test_helpers_wait_for_no_operation_of_one_item() -> None:
    share_with_helpers(1)
    try:
        gate, product = SiluGate(16, torch.float32), torch.empty(1, 16)
        gate(torch.zeros(1, 32), product)
        assert product.eq(0).all()
    finally:
        share_with_helpers(0)


def test_without_helpers_torchs_threads_are_used() -> None:
    share_with_helpers(2)
    share_with_helpers(0)
    assert compute_threads() == torch.get_num_threads()
