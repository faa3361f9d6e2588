"""Turns the settings into the list of processes that `baton up` runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.errors import StartRefused
from cli.supervisor.setup.settings import UpSettings, url_of
from cli.supervisor.state_file import Role
from shared.host.cores import available_cores
from shared.host.device_name import parts_of
from shared.settings import MEMORY_SHARE

#: -P keeps the current directory off the module path: it may have a folder named `api`. Libraries read files in the
#: locale's encoding unless -X utf8 is given.
RUN_MODULE = (sys.executable, "-P", "-X", "utf8", "-m")
_LAST_PORT = 65_535
_SECRETS = ("BATON_API_KEYS", "BATON_ADMIN_KEYS", "BATON_FLOWER_AUTH")


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """What to run, and how `baton ps` shows it."""

    role: Role
    id: str
    command: tuple[str, ...]
    #: The complete environment of the process.
    environ: Mapping[str, str]
    url: str | None = None
    device: str | None = None


def redis_plan(command: tuple[str, ...], url: str, environ: Mapping[str, str]) -> ChildPlan:
    """The Redis that `baton up` runs."""
    return ChildPlan("redis", "redis", command, _without_secrets(environ), url)


def plan_children(
    settings: UpSettings, devices: tuple[str, ...], flower_auth: str, environ: Mapping[str, str]
) -> list[ChildPlan]:
    """All processes except Redis. `environ` is passed to each of them and sets BATON_HOME, _REDIS_URL and _MODEL."""
    apis = [_api(settings, replica, environ) for replica in range(settings.api_replicas)]
    threads = _threads(settings, devices)
    workers = [
        _worker(number, device, {**_memory_share(device, devices), **environ}, threads)
        for number, device in enumerate(devices, 1)
    ]
    flower = ChildPlan(
        "flower",
        "flower",
        (*RUN_MODULE, "cli.flower_entry"),
        {**_without_secrets(environ), "BATON_FLOWER_AUTH": flower_auth},
        url_of(settings.host, settings.flower_port),
    )
    return [*apis, *workers, flower]


def ports(settings: UpSettings) -> dict[int, str]:
    """Every port to listen on, with the setting that it comes from.

    Raises StartRefused if two settings use the same port, or the port numbers run out.
    """
    used = {settings.port + replica: "BATON_PORT" for replica in range(settings.api_replicas)}
    if settings.flower_port in used:
        raise StartRefused(
            f"BATON_FLOWER_PORT={settings.flower_port} is also a port of an API replica; choose another one"
        )
    if max(used) > _LAST_PORT:
        raise StartRefused(
            f"BATON_PORT={settings.port} is too high for {settings.api_replicas} API replicas;"
            f" the last port is {_LAST_PORT}"
        )
    return {**used, settings.flower_port: "BATON_FLOWER_PORT"}


def _api(settings: UpSettings, replica: int, environ: Mapping[str, str]) -> ChildPlan:
    port = settings.port + replica
    return ChildPlan(
        "api",
        f"api-{replica + 1}",
        (*RUN_MODULE, "api.main"),
        {**environ, "BATON_PORT": str(port), "BATON_FLOWER_AUTH": ""},
        url_of(settings.host, port),
    )


def _worker(number: int, device: str, environ: Mapping[str, str], threads: int | None) -> ChildPlan:
    name = f"worker-{number}"
    own = {"BATON_WORKER_NAME": name, "BATON_WORKER_DEVICE": device, **_torch_cache(environ)}
    if threads is not None and device == "cpu":
        own["BATON_THREADS"] = str(threads)
    return ChildPlan(
        "worker",
        name,
        (*RUN_MODULE, "workers.main"),
        {**_without_secrets(environ), **own},
        device=device,
    )


def _threads(settings: UpSettings, devices: tuple[str, ...]) -> int | None:
    """Several workers on one CPU share its cores. A single worker chooses its own number of threads."""
    num_cpu_workers = devices.count("cpu")
    if settings.threads is not None or num_cpu_workers < 2:
        return settings.threads
    return max(1, available_cores() // num_cpu_workers)


def _memory_share(device: str, devices: tuple[str, ...]) -> dict[str, str]:
    """Workers on one device share its memory. Each would count all that is free as its own."""
    num_sharing = sum(1 for other in devices if set(parts_of(other)) & set(parts_of(device)))
    return {MEMORY_SHARE.name: f"{1 / num_sharing:.3g}"} if num_sharing > 1 else {}


def _torch_cache(environ: Mapping[str, str]) -> dict[str, str]:
    """The directory for torch's cache. Its default is in the system's temporary directory."""
    own = str(Path(environ["BATON_HOME"]) / "torch")
    return {"TORCHINDUCTOR_CACHE_DIR": environ.get("TORCHINDUCTOR_CACHE_DIR", own)}


def _without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name not in _SECRETS}
