"""Finds the devices of this machine without importing torch."""

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
    """The GPUs that nvidia-smi lists; empty if it is missing or fails."""
    command = ["nvidia-smi", "--query-gpu=index,memory.free", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            timeout=20,
            check=True,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_gpus(answer.stdout)


def parse_gpus(table: str) -> list[Gpu]:
    """Parses lines such as `0, 81079` (MiB). Skips a device that reports no number, as with MIG."""
    rows = [line.split(",") for line in table.splitlines()]
    return [
        Gpu(int(row[0]), int(row[1]) << 20)
        for row in rows
        if len(row) == 2 and all(cell.strip().isdigit() for cell in row)
    ]


def resolve_devices(
    requested: tuple[str, ...], gpus: list[Gpu], environ: Mapping[str, str]
) -> tuple[str, ...]:
    """One device per worker. `auto` becomes each CUDA device that the workers will see, or else the CPU."""
    if requested != ("auto",):
        return requested
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
    """Whether the installed torch was built without CUDA."""
    try:
        return metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return False
