"""Device: pins this process to one device, or the GPUs of one model, before anything imports torch."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import NamedTuple

from shared.errors import SettingsError
from shared.host.device_name import parts_of


class Device(NamedTuple):
    """One device, or several GPUs joined by `+`."""

    #: As people and `baton ps` name it: `cpu`, `cuda:1`, `cuda:2+cuda:3`.
    name: str
    #: As torch names it in this process: the first CUDA device that is left is `cuda:0`.
    torch_name: str


def pin(wanted: str, environ: MutableMapping[str, str], *, threads: int | None) -> Device:
    """Leave this process one device: `cpu`, `cuda:<n>` of those visible, several of these joined by `+`, or
    `auto`. Raises SettingsError."""
    assert "torch" not in sys.modules, "torch has read its variables already"
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
    """The device's name for CUDA, as others may have chosen some already."""
    chosen = environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return str(index)
    names = [name.strip() for name in chosen.split(",") if name.strip()]
    if index >= len(names):
        raise SettingsError(f"BATON_WORKER_DEVICE=cuda:{index}: not among CUDA_VISIBLE_DEVICES={chosen}")
    return names[index]


def _cuda_is_there(environ: MutableMapping[str, str]) -> bool:
    """Without torch: the driver's device files."""
    return environ.get("CUDA_VISIBLE_DEVICES") != "" and any(Path("/dev").glob("nvidia[0-9]*"))
