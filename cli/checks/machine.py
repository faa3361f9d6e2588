"""Whether this machine has what `baton up` takes: ports, devices, memory, a place on the disk."""

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
from shared.host.cpu_info import CpuFields, cpu_flags, read_cpu_info
from shared.host.device_name import parts_of

_GIB = 1 << 30
#: Less is not enough for the append-only file of a day.
_LEAST_DISK = _GIB // 2
_SCARCE_DISK = 5 * _GIB
#: Instruction-set extensions that make a CPU fast at matrix products, as /proc/cpuinfo names them.
_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")


def check_port_use(settings: UpSettings, home: Home) -> list[Finding]:
    """Each port that would be listened on; those of a `baton up` that runs here are well used."""
    if home.is_locked:
        return [Finding("ports", "ok", "in use by the `baton up` of this home")]
    asked: dict[int, str] = {}
    refused = refusal("ports", "choose other ports", lambda: asked.update(ports(settings)))
    if refused:
        return [refused]
    found = [
        refusal(
            "ports",
            f"stop what listens there, or set {name}",
            partial(check_ports, settings.host, {port: name}),
        )
        for port, name in asked.items()
    ]
    taken = [finding for finding in found if finding is not None]
    return taken or [Finding("ports", "ok", f"free: {', '.join(map(str, asked))}")]


def check_devices(asked: tuple[str, ...], gpus: list[Gpu], environ: Mapping[str, str]) -> list[Finding]:
    """One worker a device; each of them is there."""
    devices = resolve_devices(asked, gpus, environ)
    there = {"cpu", *(f"cuda:{gpu.index}" for gpu in gpus)}
    absent = [part for device in devices for part in parts_of(device) if part not in there]
    if absent:
        advice = "`nvidia-smi` shows what there is; set BATON_DEVICES"
        return [Finding("devices", "fail", f"not there: {', '.join(absent)}", advice)]
    if gpus and is_cpu_build_of_torch():
        advice = "install a CUDA build of torch (`make run TORCH=cuda`)"
        level: Level = "warn" if "cpu" in devices else "fail"
        return [Finding("devices", level, "a GPU is there, but torch is a CPU build", advice)]
    return [_describe(devices)]


def _describe(devices: tuple[str, ...]) -> Finding:
    text = ", ".join(devices)
    if "cpu" not in devices:
        return Finding("devices", "ok", text)
    features = cpu_features(read_cpu_info())
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if features == []:
        return Finding(
            "devices", "warn", f"{text}: no vector unit that torch uses", "expect few tokens a second"
        )
    return Finding(
        "devices", "ok", f"{text} ({num_cores} cores{''.join(f', {name}' for name in features or [])})"
    )


def cpu_features(cpu_info: CpuFields) -> list[str] | None:
    """The extensions that matter for speed; None where the system does not report them."""
    flags = cpu_flags(cpu_info)
    return [name for name in _FEATURES if name in flags] if cpu_info else None


def check_room(directory: Path, settings: UpSettings, gpus: list[Gpu], environ: Mapping[str, str]) -> Finding:
    """The weights of all workers fit into what is free now."""
    devices = resolve_devices(settings.devices, gpus, environ)
    free = free_memory(gpus)
    advice = "end other programs, choose a smaller model or BATON_DTYPE=bfloat16, or fewer BATON_DEVICES"
    refused = refusal(
        "memory", advice, lambda: check_memory(weight_bytes(directory, settings.dtype), devices, free)
    )
    parts = dict.fromkeys(part for device in devices for part in parts_of(device))
    rooms = ", ".join(f"{free[part] / _GIB:.1f} GiB free on {part}" for part in parts if part in free)
    return refused or Finding("memory", "ok", rooms)


def check_home(home: Home) -> list[Finding]:
    """BATON_HOME can be written to, by this user alone, and there is room for what it grows by."""
    there = next(path for path in (home.path, *home.path.parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        return [
            Finding("home", "fail", f"{there} cannot be written to", "set BATON_HOME to a directory of yours")
        ]
    found = [judge_disk(shutil.disk_usage(there).free, home.path)]
    if there == home.path and there.stat().st_mode & 0o077:
        detail = f"others may read {there}, which holds prompts and passwords"
        found.append(Finding("home", "warn", detail, f"chmod 700 {there}"))
    return found


def judge_disk(free: int, path: Path) -> Finding:
    """Jobs, logs and models grow."""
    detail = f"{path}: {free / _GIB:.1f} GiB free"
    advice = "make room, or set BATON_HOME to another disk: Redis refuses work when it cannot write"
    if free < _SCARCE_DISK:
        return Finding("home", "fail" if free < _LEAST_DISK else "warn", detail, advice)
    return Finding("home", "ok", detail)
