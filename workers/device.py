"""Device: pins this process to one device, or to the GPUs of one model, before torch is imported."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import NamedTuple

from shared.errors import SettingsError
from shared.host.device_name import parts_of


class Device(NamedTuple):
    """One device, or several GPUs joined by `+`."""

    #: The name for people and `baton ps`: `cpu`, `cuda:1`, `cuda:2+cuda:3`.
    name: str
    #: The name for torch in this process, where the first visible CUDA device is `cuda:0`.
    torch_name: str


def pin(wanted: str, environ: MutableMapping[str, str], *, threads: int | None) -> Device:
    """Make only this device visible to this process. Raises SettingsError.

    `wanted`: `cpu`, `cuda:<n>` of the visible devices, several of these joined by `+`, or `auto`.
    """
    assert "torch" not in sys.modules, "torch has already read its variables"
    if wanted == "auto":
        wanted = "cuda:0" if _cuda_is_there(environ) else "cpu"
    if threads is not None:
        environ["OMP_NUM_THREADS"] = environ["MKL_NUM_THREADS"] = str(threads)
    if wanted == "cpu":
        environ["CUDA_VISIBLE_DEVICES"] = ""
        return Device("cpu", "cpu")
    indexes = [int(part.removeprefix("cuda:")) for part in parts_of(wanted)]
    environ["CUDA_VISIBLE_DEVICES"] = ",".join([_visible(index, environ) for index in indexes])
    return Device(wanted, "+".join(f"cuda:{number}" for number in range(len(indexes))))


def _visible(index: int, environ: MutableMapping[str, str]) -> str:
    """Return the device's entry in CUDA_VISIBLE_DEVICES, which may be set already."""
    chosen = environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return str(index)
    names = [name.strip() for name in chosen.split(",") if name.strip()]
    if index >= len(names):
        raise SettingsError(f"BATON_WORKER_DEVICE=cuda:{index}: not among CUDA_VISIBLE_DEVICES={chosen}")
    return names[index]


def _cuda_is_there(environ: MutableMapping[str, str]) -> bool:
    """Look for the driver's device files, since torch must not be imported yet."""
    return environ.get("CUDA_VISIBLE_DEVICES") != "" and any(Path("/dev").glob("nvidia[0-9]*"))
