"""The settings that `baton up` itself uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.errors import StartRefused
from shared import settings


@dataclass(frozen=True, slots=True)
class UpSettings:
    """Read once from the environment, into which the flags have already been merged."""

    host: str
    port: int
    flower_port: int
    home: Path
    #: Empty: `baton up` starts its own Redis.
    redis_url: str
    #: Empty: same as `redis_url`.
    broker_url: str
    appendfsync: str
    #: None: a share of the machine's memory.
    redis_memory_mb: int | None
    #: Directory, GGUF file or hub id; empty: the default model.
    model: str
    devices: tuple[str, ...]
    dtype: str
    threads: int | None
    api_replicas: int
    flower_auth: str
    log_level: str
    log_format: str

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> UpSettings:
        """Raises SettingsError if a variable is wrong, and StartRefused if settings are unsafe together."""
        env = settings.Environment(environ)
        for variable in settings.VARIABLES:
            env.read(variable)
        host = env.read(settings.HOST)
        has_keys = env.read(settings.API_KEYS) or env.read(settings.ADMIN_KEYS)
        if not has_keys and not settings.is_loopback(host):
            raise StartRefused(
                f"BATON_HOST={host} is reachable from other machines; set BATON_API_KEYS, or use 127.0.0.1"
            )
        return cls(
            host=host,
            port=env.read(settings.PORT),
            flower_port=env.read(settings.FLOWER_PORT),
            home=env.read(settings.HOME),
            redis_url=env.read(settings.REDIS_URL),
            broker_url=env.read(settings.BROKER_URL),
            appendfsync=env.read(settings.APPENDFSYNC),
            redis_memory_mb=env.read(settings.REDIS_MEMORY_MB),
            model=env.read(settings.MODEL),
            devices=env.read(settings.DEVICES),
            dtype=env.read(settings.DTYPE),
            threads=env.read(settings.THREADS),
            api_replicas=env.read(settings.API_REPLICAS),
            flower_auth=env.read(settings.FLOWER_BASIC_AUTH),
            log_level=env.read(settings.LOG_LEVEL),
            log_format=env.read(settings.LOG_FORMAT),
        )


def url_of(host: str, port: int) -> str:
    """The URL at which this machine reaches a server that listens on `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
