from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch

from bench import gpu
from tests.models import tiny_model


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench.gpu"])
    assert gpu.main() == 1
    assert capsys.readouterr().err == (
        "bench.gpu: no CUDA device found; it needs one, and a CUDA build of torch\n"
    )


def test_all_contestants_give_every_row_its_tokens() -> None:
    runs = gpu.contestants(lambda: tiny_model("llama"), max_rows=3, num_output=5)
    prompts = [[1 + i, 2, 3] for i in range(3)]
    for name, run in runs.items():
        assert [len(times) for times in run(prompts, 5)] == [5, 5, 5], name
    speeds = gpu.measure({"baton": runs["baton"]}, 2, num_output=4, num_runs=2, vocab_size=160)
    (line,) = gpu.table(2, speeds)
    assert line.split()[:2] == ["2", "baton"]
    assert line.endswith("1.00")
