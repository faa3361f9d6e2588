"""WorkerSettings: the settings of a worker process."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Literal, cast

from shared import settings
from shared.errors import SettingsError
from shared.model.model_name import DEFAULT_MODEL, model_name_of
from shared.settings import Environment


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Read once at the start. Each component gets only the values that it needs."""

    #: The name that `baton ps` shows. It stays the same after a restart.
    name: str
    redis_url: str
    broker_url: str
    #: A directory, a GGUF file, or the id of a repository on the Hugging Face hub.
    model: str
    #: The name with which clients request the model.
    model_name: str
    #: `auto`, `cpu`, `cuda:<n>`, or GPUs joined by `+`.
    device: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    quant: Literal["none", "int8"]
    native: Literal["auto", "off"]
    speculation: Literal["auto", "off"]
    threads: int | None
    slots: int
    max_model_len: int | None
    max_kv_tokens: int | None
    memory_share: float
    lease_s: float
    drain_s: float
    log_level: str
    log_format: str

    @classmethod
    def from_environment(cls, env: Environment) -> WorkerSettings:
        """Raises SettingsError."""
        redis_url = env.read(settings.REDIS_URL)
        if not redis_url:
            raise SettingsError("BATON_REDIS_URL is empty: a worker needs the URL of a Redis")
        devices = env.read(settings.WORKER_DEVICE)
        if len(devices) != 1:
            raise SettingsError(f"BATON_WORKER_DEVICE={','.join(devices)}: a worker has one device")
        model = env.read(settings.MODEL) or str(env.read(settings.HOME) / "models" / DEFAULT_MODEL)
        return cls(
            name=env.read(settings.WORKER_NAME)
            or f"{socket.gethostname()}-{devices[0].replace(':', '').replace('+', '-')}",
            redis_url=redis_url,
            broker_url=env.read(settings.BROKER_URL) or redis_url,
            model=model,
            model_name=env.read(settings.MODEL_NAME) or model_name_of(model),
            device=devices[0],
            dtype=cast(Literal["auto", "float32", "bfloat16", "float16"], env.read(settings.DTYPE)),
            quant=cast(Literal["none", "int8"], env.read(settings.QUANT)),
            native=cast(Literal["auto", "off"], env.read(settings.NATIVE)),
            speculation=cast(Literal["auto", "off"], env.read(settings.SPECULATION)),
            threads=env.read(settings.THREADS),
            slots=env.read(settings.MAX_SLOTS),
            max_model_len=env.read(settings.MAX_MODEL_LEN),
            max_kv_tokens=env.read(settings.MAX_KV_TOKENS),
            memory_share=env.read(settings.MEMORY_SHARE),
            lease_s=env.read(settings.LEASE_S),
            drain_s=env.read(settings.DRAIN_S),
            log_level=env.read(settings.LOG_LEVEL),
            log_format=env.read(settings.LOG_FORMAT),
        )
