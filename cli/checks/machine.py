"""Checks that this machine has what `baton up` needs: ports, devices, memory and disk space."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from cli.checks.finding import Finding, Level, refusal
from cli.supervisor.plan import ports
from cli.supervisor.setup.devices import Gpu, is_cpu_build_of_torch, resolve_devices
from cli.supervisor.setup.home import Home
from cli.supervisor.setup.memory import check_memory, free_memory
from cli.supervisor.setup.model import weight_bytes
from cli.supervisor.setup.ports import check_ports
from cli.supervisor.setup.settings import UpSettings
from shared.host.cores import available_cores
from shared.host.cpu_info import CpuFields, cpu_flags, read_cpu_info
from shared.host.device_name import parts_of

_GIB = 1 << 30
#: Less than this is not enough for one day of Redis's append-only file.
_LEAST_DISK = _GIB // 2
_SCARCE_DISK = 5 * _GIB
#: Instruction-set extensions that make a CPU fast at matrix products, as /proc/cpuinfo names them.
_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")


def check_port_use(settings: UpSettings, home: Home) -> list[Finding]:
    """Checks each port that `baton up` would listen on. Ports of a `baton up` that runs here are in order."""
    if home.is_locked:
        return [Finding("ports", "ok", "in use by the `baton up` of this home")]
    needed: dict[int, str] = {}
    refused = refusal("ports", "choose other ports", lambda: needed.update(ports(settings)))
    if refused:
        return [refused]
    found = [
        refusal(
            "ports",
            f"stop the program that uses the port, or choose another port with {name}",
            partial(check_ports, settings.host, {port: name}),
        )
        for port, name in needed.items()
    ]
    taken = [finding for finding in found if finding is not None]
    return taken or [Finding("ports", "ok", f"free: {', '.join(map(str, needed))}")]


def check_devices(requested: tuple[str, ...], gpus: list[Gpu], environ: Mapping[str, str]) -> list[Finding]:
    """Checks that the device of every worker exists."""
    devices = resolve_devices(requested, gpus, environ)
    existing = {"cpu", *(f"cuda:{gpu.index}" for gpu in gpus)}
    missing = [part for device in devices for part in parts_of(device) if part not in existing]
    if missing:
        advice = "set BATON_DEVICES to devices that `nvidia-smi` lists, or to cpu"
        return [Finding("devices", "fail", f"not found: {', '.join(missing)}", advice)]
    if gpus and is_cpu_build_of_torch():
        advice = "install a CUDA build of torch (`make run TORCH=cuda`)"
        level: Level = "warn" if "cpu" in devices else "fail"
        return [Finding("devices", level, "this machine has a GPU, but torch is a CPU build", advice)]
    return [_describe(devices)]


def _describe(devices: tuple[str, ...]) -> Finding:
    text = ", ".join(devices)
    if "cpu" not in devices:
        return Finding("devices", "ok", text)
    features = cpu_features(read_cpu_info())
    num_cores = available_cores()
    if features == []:
        return Finding(
            "devices",
            "warn",
            f"{text}: the CPU has no vector instructions that torch uses",
            "expect slow generation, or use another machine",
        )
    return Finding(
        "devices", "ok", f"{text} ({num_cores} cores{''.join(f', {name}' for name in features or [])})"
    )


def cpu_features(cpu_info: CpuFields) -> list[str] | None:
    """The extensions that matter for speed; None where the system does not report them."""
    flags = cpu_flags(cpu_info)
    return [name for name in _FEATURES if name in flags] if cpu_info else None


def check_room(directory: Path, settings: UpSettings, gpus: list[Gpu], environ: Mapping[str, str]) -> Finding:
    """Checks that the weights of all workers fit in the memory that is free now."""
    devices = resolve_devices(settings.devices, gpus, environ)
    free = free_memory(gpus)
    advice = "close other programs, use a smaller model or BATON_DTYPE=bfloat16, or fewer BATON_DEVICES"
    refused = refusal(
        "memory", advice, lambda: check_memory(weight_bytes(directory, settings.dtype), devices, free)
    )
    parts = dict.fromkeys(part for device in devices for part in parts_of(device))
    free_by_device = ", ".join(
        f"{free[part] / _GIB:.1f} GiB free on {part}" for part in parts if part in free
    )
    return refused or Finding("memory", "ok", free_by_device)


def check_home(home: Home) -> list[Finding]:
    """Checks that BATON_HOME is writable, private to this user, and has enough disk space."""
    existing = next(path for path in (home.path, *home.path.parents) if path.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        advice = "set BATON_HOME to a directory that you can write to"
        return [Finding("home", "fail", f"{existing} is not a writable directory", advice)]
    found = [judge_disk(shutil.disk_usage(existing).free, home.path)]
    if existing == home.path and existing.stat().st_mode & 0o077:
        detail = f"other users can read {existing}, which holds prompts and passwords"
        found.append(Finding("home", "warn", detail, f"chmod 700 {existing}"))
    return found


def judge_disk(free: int, path: Path) -> Finding:
    """Jobs, logs and models need space."""
    detail = f"{path}: {free / _GIB:.1f} GiB free"
    advice = "free some space, or set BATON_HOME to another disk: Redis rejects writes when the disk is full"
    if free < _SCARCE_DISK:
        return Finding("home", "fail" if free < _LEAST_DISK else "warn", detail, advice)
    return Finding("home", "ok", detail)
