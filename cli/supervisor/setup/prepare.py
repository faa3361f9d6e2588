"""What `baton up` does before it starts a process: checks, fetching the model, and the plans."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cli.errors import StartRefused
from cli.supervisor.embedded_redis import redis_binary, redis_command, socket_path
from cli.supervisor.parent_death import ends_with_parent
from cli.supervisor.plan import RUN_MODULE, ChildPlan, plan_children, ports, redis_plan
from cli.supervisor.redis_version import RedisVersion
from cli.supervisor.setup.devices import query_gpus, resolve_devices
from cli.supervisor.setup.flower_password import FlowerAuth, flower_auth
from cli.supervisor.setup.home import Home
from cli.supervisor.setup.memory import check_memory, free_memory
from cli.supervisor.setup.model import model_path, weight_bytes
from cli.supervisor.setup.modules import check_modules
from cli.supervisor.setup.ports import check_ports
from cli.supervisor.setup.settings import UpSettings
from shared.host.memory import total_bytes
from shared.model.model_name import DEFAULT_MODEL, model_name_of
from shared.settings import BROKER_URL, MAX_STORED_MB, MODEL_NAME, REDIS_URL, Environment

#: The Redis of `baton up` may use 1 / this of the machine's memory. The workers need most of it.
_SHARE_OF_REDIS = 4


@dataclass(frozen=True, slots=True)
class Prepared:
    """The processes to start, and what the banner shows."""

    plans: tuple[ChildPlan, ...]
    redis_url: str
    broker_url: str
    flower_auth: FlowerAuth
    #: The name by which clients request the model.
    model_name: str
    devices: tuple[str, ...]
    is_key_needed: bool
    #: Version of the Redis that is started. None: it is somebody else's.
    redis_version: RedisVersion | None = None

    @property
    def api_url(self) -> str:
        """URL of the first replica."""
        return next(plan.url for plan in self.plans if plan.role == "api" and plan.url)


def prepare(settings: UpSettings, home: Home, environ: Mapping[str, str]) -> Prepared:
    """Check the machine and fetch the model if needed. The home must be locked. Raises StartRefused."""
    check_modules()
    check_ports(settings.host, ports(settings))
    for variable, url in ((REDIS_URL, settings.redis_url), (BROKER_URL, settings.broker_url)):
        _check_socket(variable.name, url)
    given = model_path(settings.model) if settings.model else None
    gpus = query_gpus()
    devices = resolve_devices(settings.devices, gpus, environ)
    directory = given if settings.model else _default_model(home)
    if directory:
        check_memory(weight_bytes(directory, settings.dtype), devices, free_memory(gpus))
    socket = socket_path(home.redis)
    redis_mb = settings.redis_memory_mb or total_bytes() // _SHARE_OF_REDIS // 2**20
    redis_url = settings.redis_url or f"unix://{socket}"
    common = {
        **({} if settings.redis_url else {MAX_STORED_MB.name: str(redis_mb * 3 // 4)}),
        **environ,
        "BATON_HOME": str(home.path),
        "BATON_MODEL": str(directory or settings.model),
        "BATON_REDIS_URL": redis_url,
    }
    auth = _flower_auth(settings, home)
    plans = plan_children(settings, devices, auth.text, common)
    redis = None if settings.redis_url else redis_binary(home.redis)
    if redis is not None:
        command = redis_command(redis.path, home.redis, socket, settings.appendfsync, redis_mb)
        plans.insert(0, redis_plan(command, redis_url, environ))
    return Prepared(
        plans=tuple(plans),
        redis_url=redis_url,
        broker_url=settings.broker_url or redis_url,
        flower_auth=auth,
        model_name=Environment(environ).read(MODEL_NAME) or model_name_of(common["BATON_MODEL"]),
        devices=devices,
        is_key_needed=bool(environ.get("BATON_API_KEYS") or environ.get("BATON_ADMIN_KEYS")),
        redis_version=None if redis is None else redis.version,
    )


def _check_socket(name: str, url: str) -> None:
    """Raises StartRefused. A Redis on another machine may come later, and so may its address."""
    if url.startswith("unix:") and not (path := Path(unquote(urlsplit(url).path))).is_socket():
        raise StartRefused(f"{name}: there is no socket {path}; start that Redis first, or correct the path")


def _flower_auth(settings: UpSettings, home: Home) -> FlowerAuth:
    if settings.flower_auth:
        return FlowerAuth(settings.flower_auth, is_new=False)
    return flower_auth(home.flower_password)


def _default_model(home: Home) -> Path:
    """The directory of the default model. If needed, a process that shows its own progress fetches the model."""
    directory = home.models / DEFAULT_MODEL
    if not directory.is_dir():
        command = ends_with_parent([*RUN_MODULE, "cli.models.fetch", "--home", str(home.path)])
        fetch = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        if fetch.returncode != 0:
            raise StartRefused("could not fetch the default model; set BATON_MODEL to another model")
    return directory
