"""Settings: every environment variable of Baton, in one table. A process reads those that it needs, once."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from shared.errors import SettingsError
from shared.host.device_name import read_device
from shared.runtime.failpoint import read_failpoint

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Variable(Generic[T]):
    """One environment variable: its name, the default as one would write it, how it is read, what it does."""

    name: str
    default: str
    read: Callable[[str], T]
    doc: str


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise ValueError("must be greater than 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError("must be at least 1")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 < value < 65536:
        raise ValueError("must be between 1 and 65535")
    return value


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return read


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _devices(text: str) -> tuple[str, ...]:
    devices = tuple(map(read_device, _list(text)))
    if not devices:
        raise ValueError("names no device")
    if "auto" in devices and len(devices) > 1:
        raise ValueError("auto stands alone")
    return devices


def _optional_count(text: str) -> int | None:
    return _count(text) if text else None


HOST = Variable("BATON_HOST", "127.0.0.1", str, "Address on which the API and Flower listen.")
PORT = Variable("BATON_PORT", "8000", _port, "Port of the first API replica; the second takes the next one.")
FLOWER_PORT = Variable("BATON_FLOWER_PORT", "5555", _port, "Port of Flower.")
HOME = Variable("BATON_HOME", ".baton", Path, "Directory of models, Redis's data, logs and passwords.")
REDIS_URL = Variable(
    "BATON_REDIS_URL", "", str, "Redis that keeps the jobs; empty: one of our own is started."
)
BROKER_URL = Variable("BATON_BROKER_URL", "", str, "Redis that carries Celery's messages; empty: the same.")
APPENDFSYNC = Variable(
    "BATON_APPENDFSYNC", "always", _one_of("always", "everysec"), "When our own Redis writes to the disk."
)
MODEL = Variable(
    "BATON_MODEL", "", str, "Model directory, GGUF file or hub id; empty: SmolLM2-135M-Instruct."
)
MODEL_NAME = Variable(
    "BATON_MODEL_NAME", "", str, "Name under which clients ask for it; empty: its last part."
)
DEVICES = Variable(
    "BATON_DEVICES",
    "auto",
    _devices,
    "auto, or a list, one worker each: cpu,cpu or cuda:0,cuda:1; one over two GPUs: cuda:0+cuda:1.",
)
DTYPE = Variable(
    "BATON_DTYPE",
    "auto",
    _one_of("auto", "float32", "bfloat16", "float16"),
    "Type in which the model computes; auto: the fastest that the device has.",
)
QUANT = Variable(
    "BATON_QUANT",
    "none",
    _one_of("none", "int8"),
    "int8: linear layers compute with 8 bits, which is faster and less accurate; on CPUs only.",
)
NATIVE = Variable(
    "BATON_NATIVE",
    "auto",
    _one_of("auto", "off"),
    "auto: a CPU worker builds operations in C where it finds a compiler; off: torch computes all.",
)
SPECULATION = Variable(
    "BATON_SPECULATION",
    "auto",
    _one_of("auto", "off"),
    "auto: guess tokens where a text repeats itself and verify several at once; answers stay the same.",
)
THREADS = Variable(
    "BATON_THREADS", "", _optional_count, "Compute threads of a CPU worker; empty: measured choice."
)
MAX_SLOTS = Variable("BATON_MAX_SLOTS", "32", _count, "Sequences that a worker runs at once.")
MAX_MODEL_LEN = Variable(
    "BATON_MAX_MODEL_LEN", "", _optional_count, "Longest context; empty: the model's own."
)
MAX_KV_TOKENS = Variable(
    "BATON_MAX_KV_TOKENS",
    "",
    _optional_count,
    "Tokens in a worker's cache; empty: what fits into six tenths of the memory that is free after loading.",
)
API_REPLICAS = Variable("BATON_API_REPLICAS", "1", _count, "API processes that `baton up` starts.")
API_KEYS = Variable("BATON_API_KEYS", "", _list, "Accepted API keys; may be empty on loopback only.")
PING_S = Variable("BATON_PING_S", "15", _positive, "Seconds between pings on a silent stream.")
FIRST_OUTPUT_WAIT_S = Variable(
    "BATON_FIRST_OUTPUT_WAIT_S", "10", _positive, "How long a status line waits for output or a worker."
)
BODY_LIMIT = Variable("BATON_BODY_LIMIT", "4194304", _count, "Bytes of the largest request body.")
RECEIPT_S = Variable(
    "BATON_RECEIPT_S", "15", _positive, "How long a request's head, and then its body, may take to come in."
)
MAX_READERS = Variable(
    "BATON_MAX_READERS", "1024", _count, "Chats and streams that one API key may have open on a replica."
)
MAX_OPEN_JOBS = Variable(
    "BATON_MAX_OPEN_JOBS", "100000", _count, "Jobs of one API key that may wait or run at once."
)
READER_GRACE_S = Variable(
    "BATON_READER_GRACE_S", "15", _positive, "How long a chat goes on when nobody reads it any more."
)
RETENTION_S = Variable("BATON_RETENTION_S", "86400", _positive, "How long a job is kept after its end.")
LEASE_S = Variable("BATON_LEASE_S", "3", _positive, "A worker without a sign of life for this long is dead.")
DRAIN_S = Variable(
    "BATON_DRAIN_S", "5", _positive, "How long open streams may go on when the API is stopped."
)
LOG_LEVEL = Variable(
    "BATON_LOG_LEVEL", "info", _one_of("debug", "info", "warning", "error"), "Least level that is logged."
)
LOG_FORMAT = Variable(
    "BATON_LOG_FORMAT",
    "auto",
    _one_of("auto", "json", "text"),
    "Form of log lines; auto: text on a terminal, else JSON.",
)
WORKER_NAME = Variable("BATON_WORKER_NAME", "", str, "Name of a worker; empty: host and device.")
WORKER_DEVICE = Variable(
    "BATON_WORKER_DEVICE", "auto", _devices, "The one device of a worker process, or its GPUs: cuda:0+cuda:1."
)
FLOWER_BASIC_AUTH = Variable("BATON_FLOWER_AUTH", "", str, "user:password of Flower; empty: made and kept.")
FAILPOINT = Variable(
    "BATON_FAILPOINT", "", read_failpoint, "For tests: `name:nth`, a place at which the process kills itself."
)

VARIABLES: tuple[Variable[Any], ...] = (
    HOST, PORT, FLOWER_PORT, HOME, REDIS_URL, BROKER_URL, APPENDFSYNC, MODEL, MODEL_NAME, DEVICES, DTYPE,
    QUANT, NATIVE, SPECULATION, THREADS, MAX_SLOTS, MAX_MODEL_LEN, MAX_KV_TOKENS, API_REPLICAS, API_KEYS,
    PING_S, FIRST_OUTPUT_WAIT_S, BODY_LIMIT, RECEIPT_S, MAX_READERS, MAX_OPEN_JOBS, READER_GRACE_S,
    RETENTION_S, LEASE_S, DRAIN_S, LOG_LEVEL, LOG_FORMAT, WORKER_NAME, WORKER_DEVICE, FLOWER_BASIC_AUTH,
    FAILPOINT,
)  # fmt: skip

_PLACEHOLDERS = ("changeme", "change-me", "<", "your-")


class Environment:
    """The variables of one process, checked. Raises SettingsError with the variable's name."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        known = [variable.name for variable in VARIABLES]
        for name in environ:
            if name.startswith("BATON_") and name not in known:
                near = difflib.get_close_matches(name, known, 1)
                raise SettingsError(f"{name} is not a setting" + (f"; is {near[0]} meant?" if near else ""))

    def read(self, variable: Variable[T]) -> T:
        text = self._environ.get(variable.name, "").strip() or variable.default
        if text.lower().startswith(_PLACEHOLDERS):
            raise SettingsError(f"{variable.name} still holds a placeholder: {text}")
        try:
            return variable.read(text)
        except ValueError as error:
            raise SettingsError(f"{variable.name}={text}: {error}") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
