from __future__ import annotations

import pytest

from cli.supervisor.setup import devices
from cli.supervisor.setup.devices import Gpu, parse_gpus, resolve_devices

TWO = [Gpu(0, 1 << 30), Gpu(1, 1 << 30)]


@pytest.fixture(autouse=True)
def cuda_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "is_cpu_build_of_torch", lambda: False)


def test_reads_what_nvidia_smi_prints() -> None:
    assert parse_gpus("0, 81079\n1, [N/A]\n2, 5\n\n") == [Gpu(0, 81079 << 20), Gpu(2, 5 << 20)]


def test_auto_is_every_gpu_else_the_cpu() -> None:
    assert resolve_devices(("auto",), TWO, {}) == ("cuda:0", "cuda:1")
    assert resolve_devices(("auto",), [], {}) == ("cpu",)


def test_auto_minds_what_is_visible() -> None:
    assert resolve_devices(("auto",), TWO, {"CUDA_VISIBLE_DEVICES": "1"}) == ("cuda:0",)
    assert resolve_devices(("auto",), TWO, {"CUDA_VISIBLE_DEVICES": ""}) == ("cpu",)
    assert resolve_devices(("auto",), TWO, {"CUDA_VISIBLE_DEVICES": "-1"}) == ("cpu",)


def test_auto_minds_which_torch_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "is_cpu_build_of_torch", lambda: True)
    assert resolve_devices(("auto",), TWO, {}) == ("cpu",)


def test_a_list_stands_as_it_is() -> None:
    assert resolve_devices(("cpu", "cpu"), TWO, {}) == ("cpu", "cpu")
