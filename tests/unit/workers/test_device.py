from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from shared.errors import SettingsError
from workers.device import Device, pin


@pytest.fixture(autouse=True)
def _without_torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    yield


def test_the_cpu_sees_no_cuda_device() -> None:
    environ: dict[str, str] = {}
    assert pin("cpu", environ, threads=3) == Device("cpu", "cpu")
    assert environ == {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"}


def test_a_cuda_device_is_the_only_one_left() -> None:
    environ: dict[str, str] = {}
    assert pin("cuda:1", environ, threads=None) == Device("cuda:1", "cuda:0")
    assert environ == {"CUDA_VISIBLE_DEVICES": "1"}


def test_the_number_counts_among_those_visible() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "4,GPU-ab"}
    pin("cuda:1", environ, threads=None)
    assert environ == {"CUDA_VISIBLE_DEVICES": "GPU-ab"}
    with pytest.raises(SettingsError, match="cuda:2"):
        pin("cuda:2", {"CUDA_VISIBLE_DEVICES": "4,5"}, threads=None)


def test_gpus_of_one_model_are_numbered_from_zero() -> None:
    environ: dict[str, str] = {}
    assert pin("cuda:1+cuda:3", environ, threads=None) == Device("cuda:1+cuda:3", "cuda:0+cuda:1")
    assert environ == {"CUDA_VISIBLE_DEVICES": "1,3"}
    with pytest.raises(SettingsError, match="cuda:2"):
        pin("cuda:0+cuda:2", {"CUDA_VISIBLE_DEVICES": "4,5"}, threads=None)


def test_auto_without_visible_devices_is_the_cpu() -> None:
    assert pin("auto", {"CUDA_VISIBLE_DEVICES": ""}, threads=None) == Device("cpu", "cpu")


def test_pinning_after_torch_was_imported_is_our_own_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", pytest)
    with pytest.raises(AssertionError):
        pin("cpu", {}, threads=None)
