"""Devices of this machine, without importing torch."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata


@dataclass(frozen=True, slots=True)
class Gpu:
    """A CUDA device as nvidia-smi reports it."""

    index: int
    free_bytes: int


def query_gpus() -> list[Gpu]:
    """What nvidia-smi lists; nothing where there is none, or none that works."""
    command = ["nvidia-smi", "--query-gpu=index,memory.free", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_gpus(answer.stdout)


def parse_gpus(table: str) -> list[Gpu]:
    """Lines as `0, 81079` (MiB). A device that tells no number, as MIG does, is left out."""
    rows = [line.split(",") for line in table.splitlines()]
    return [
        Gpu(int(row[0]), int(row[1]) << 20)
        for row in rows
        if len(row) == 2 and all(cell.strip().isdigit() for cell in row)
    ]


def resolve_devices(asked: tuple[str, ...], gpus: list[Gpu], environ: Mapping[str, str]) -> tuple[str, ...]:
    """One device a worker. `auto`: each CUDA device that the workers will see, else the CPU."""
    if asked != ("auto",):
        return asked
    num_visible = len(gpus)
    if "CUDA_VISIBLE_DEVICES" in environ:
        visible = [
            part for part in environ["CUDA_VISIBLE_DEVICES"].split(",") if part.strip() not in ("", "-1")
        ]
        num_visible = min(len(visible), len(gpus))
    if not num_visible or is_cpu_build_of_torch():
        return ("cpu",)
    return tuple(f"cuda:{index}" for index in range(num_visible))


def is_cpu_build_of_torch() -> bool:
    """Whether the installed torch says that it has no CUDA."""
    try:
        return metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return False
