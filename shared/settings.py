"""Every environment variable of Baton, in one table. A process reads the ones it needs once, when it starts."""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from shared.errors import SettingsError
from shared.host.device_name import read_device
from shared.model.model_name import DEFAULT_MODEL
from shared.redis_url import read_redis_url
from shared.runtime.failpoint import read_failpoint

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Variable(Generic[T]):
    """One environment variable: its name, its default as text, how to parse it, and its description.

    The value of a secret one never stands in an error.
    """

    name: str
    default: str
    read: Callable[[str], T]
    doc: str
    is_secret: bool = False


def _parse(kind: Callable[[str], T], text: str, rule: str) -> T:
    """Raises ValueError with the rule in place of Python's own words."""
    try:
        return kind(text)
    except ValueError as error:
        raise ValueError(rule) from error


def _positive(text: str) -> float:
    value = _parse(float, text, "must be a number")
    if not value > 0:
        raise ValueError("must be greater than 0")
    return value


def _share(text: str) -> float:
    value = _positive(text)
    if value > 1:
        raise ValueError("must be at most 1")
    return value


def _count(text: str) -> int:
    value = _parse(int, text, "must be a whole number")
    if value < 1:
        raise ValueError("must be at least 1")
    return value


def _port(text: str) -> int:
    value = _parse(int, text, "must be a whole number")
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


def _login(text: str) -> str:
    """Text that every HTTP client sends alike: other characters are sent as UTF-8 by some, as Latin-1 by others."""
    if not (text.isascii() and text.isprintable()):
        raise ValueError("must consist of printable ASCII characters")
    return text


def _keys(text: str) -> tuple[str, ...]:
    return _list(_login(text))


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


_PAGES = ("metrics", "docs")


def _pages(text: str) -> tuple[str, ...]:
    pages = () if text == "none" else _list(text)
    if not set(pages) <= set(_PAGES):
        raise ValueError(f"must be none, or one or more of {', '.join(_PAGES)}")
    return pages


def _devices(text: str) -> tuple[str, ...]:
    devices = tuple(map(read_device, _list(text)))
    if not devices:
        raise ValueError("must name at least one device")
    if "auto" in devices and len(devices) > 1:
        raise ValueError("auto cannot be combined with other devices")
    return devices


def _optional_count(text: str) -> int | None:
    return _count(text) if text else None


HOST = Variable("BATON_HOST", "127.0.0.1", str, "Address that the API and Flower listen on.")
PORT = Variable(
    "BATON_PORT", "8000", _port, "Port of the first API replica. Further replicas use the ports after it."
)
FLOWER_PORT = Variable("BATON_FLOWER_PORT", "5555", _port, "Port of Flower.")
HOME = Variable("BATON_HOME", ".baton", Path, "Directory for models, Redis data, logs and passwords.")
REDIS_URL = Variable(
    "BATON_REDIS_URL",
    "",
    read_redis_url,
    "Redis URL for job data: redis://, rediss:// (TLS) or unix://. Default: `baton up` starts its own Redis.",
    is_secret=True,
)
BROKER_URL = Variable(
    "BATON_BROKER_URL",
    "",
    read_redis_url,
    "Redis URL for Celery messages. Default: same as BATON_REDIS_URL.",
    is_secret=True,
)
APPENDFSYNC = Variable(
    "BATON_APPENDFSYNC",
    "always",
    _one_of("always", "everysec"),
    "When the Redis of `baton up` flushes to disk: always (every write) or everysec (once a second).",
)
MODEL = Variable(
    "BATON_MODEL",
    "",
    str,
    f"Model to serve: a directory, a GGUF file or a Hugging Face hub id. Default: {DEFAULT_MODEL}.",
)
MODEL_NAME = Variable(
    "BATON_MODEL_NAME",
    "",
    str,
    "Model name that clients send. Default: the last part of BATON_MODEL.",
)
DEVICES = Variable(
    "BATON_DEVICES",
    "auto",
    _devices,
    "Devices, one worker each, as in cpu,cpu or cuda:0,cuda:1; cuda:0+cuda:1 splits one model over two GPUs."
    " auto: every GPU, otherwise the CPU.",
)
DTYPE = Variable(
    "BATON_DTYPE",
    "auto",
    _one_of("auto", "float32", "bfloat16", "float16"),
    "Data type that the model computes in. auto: the fastest that the device supports.",
)
QUANT = Variable(
    "BATON_QUANT",
    "none",
    _one_of("none", "int8"),
    "Quantization on CPUs. int8: 8-bit linear layers, which are faster and less accurate.",
)
NATIVE = Variable(
    "BATON_NATIVE",
    "auto",
    _one_of("auto", "off"),
    "C operations of CPU workers. auto: build them if a compiler is found; off: use torch only.",
)
SPECULATION = Variable(
    "BATON_SPECULATION",
    "auto",
    _one_of("auto", "off"),
    "Speculative decoding. auto: guess tokens in repetitive text and verify several at once; answers do not"
    " change.",
)
THREADS = Variable(
    "BATON_THREADS",
    "",
    _optional_count,
    "Compute threads of a CPU worker. Default: chosen by measurement at start.",
)
MAX_SLOTS = Variable(
    "BATON_MAX_SLOTS", "32", _count, "Maximum number of sequences that a worker runs at once."
)
MAX_MODEL_LEN = Variable(
    "BATON_MAX_MODEL_LEN",
    "",
    _optional_count,
    "Maximum context length in tokens. Default: the model's limit.",
)
MAX_KV_TOKENS = Variable(
    "BATON_MAX_KV_TOKENS",
    "",
    _optional_count,
    "Size of a worker's KV cache in tokens. Default: what fits in 60 % of the memory left after loading.",
)
MEMORY_SHARE = Variable(
    "BATON_MEMORY_SHARE",
    "1",
    _share,
    "Share of the free memory that a worker may count as its own when it sizes its KV cache, up to 1. `baton up`"
    " sets it for workers that share a device.",
)
API_REPLICAS = Variable("BATON_API_REPLICAS", "1", _count, "Number of API processes that `baton up` starts.")
API_KEYS = Variable(
    "BATON_API_KEYS",
    "",
    _keys,
    "Accepted API keys, separated by commas. API keys or admin keys are required unless BATON_HOST is a loopback"
    " address.",
    is_secret=True,
)
ADMIN_KEYS = Variable(
    "BATON_ADMIN_KEYS",
    "",
    _keys,
    "API keys that may also drain workers, use other keys' jobs and set the priority high.",
    is_secret=True,
)
CORS_ORIGINS = Variable(
    "BATON_CORS_ORIGINS",
    "",
    _list,
    "Origins of web pages that may use the API, as in https://app.example.com, separated by commas; * allows all."
    " Pages from loopback addresses always may.",
)
PUBLIC_PAGES = Variable(
    "BATON_PUBLIC_PAGES",
    "metrics,docs",
    _pages,
    "What needs no API key: metrics (/metrics), docs (/docs and /openapi.json), or none. Without metrics, /metrics"
    " needs an admin key; without docs, the two pages are not served.",
)
STRICT_PARAMETERS = Variable(
    "BATON_STRICT_PARAMETERS",
    "false",
    _flag,
    "true: refuse requests with unknown parameters. false: ignore and report them.",
)
PING_S = Variable("BATON_PING_S", "15", _positive, "Seconds between pings on an idle stream.")
FIRST_OUTPUT_WAIT_S = Variable(
    "BATON_FIRST_OUTPUT_WAIT_S",
    "10",
    _positive,
    "Seconds to wait for the first output, or for a worker, before the API sends a status code.",
)
BODY_LIMIT = Variable("BATON_BODY_LIMIT", "4194304", _count, "Maximum size of a request body in bytes.")
RECEIPT_S = Variable(
    "BATON_RECEIPT_S",
    "15",
    _positive,
    "Seconds that a client may take to send a request's headers, and as many again for its body.",
)
MAX_READERS = Variable(
    "BATON_MAX_READERS", "1024", _count, "Maximum number of open chats and streams per API key and replica."
)
MAX_OPEN_JOBS = Variable(
    "BATON_MAX_OPEN_JOBS", "100000", _count, "Maximum number of queued and running jobs per API key."
)
MAX_OWNER_MB = Variable(
    "BATON_MAX_OWNER_MB",
    "1024",
    _count,
    "Maximum memory of Redis, in MiB, that the jobs of one API key take. Jobs that have ended count until they are"
    " deleted or their retention ends.",
)
MAX_STORED_MB = Variable(
    "BATON_MAX_STORED_MB",
    "4096",
    _count,
    "The same for all jobs together. Keep it below Redis's own limit (maxmemory). `baton up` sets it to three quarters"
    " of BATON_REDIS_MEMORY_MB.",
)
REDIS_MEMORY_MB = Variable(
    "BATON_REDIS_MEMORY_MB",
    "",
    _optional_count,
    "Memory limit, in MiB, of the Redis that `baton up` starts. Default: a quarter of the machine's memory.",
)
READER_GRACE_S = Variable(
    "BATON_READER_GRACE_S",
    "300",
    _positive,
    "Seconds that a job without readers stays paused before it is cancelled.",
)
RETENTION_S = Variable("BATON_RETENTION_S", "86400", _positive, "Seconds to keep a job after it ends.")
LEASE_S = Variable(
    "BATON_LEASE_S", "3", _positive, "Seconds without a heartbeat after which a worker counts as dead."
)
DRAIN_S = Variable(
    "BATON_DRAIN_S",
    "5",
    _positive,
    "Seconds that open streams, and answers that only their worker can end, may continue after a stop.",
)
LOG_LEVEL = Variable(
    "BATON_LOG_LEVEL",
    "info",
    _one_of("debug", "info", "warning", "error"),
    "Lowest level to log: debug, info, warning or error.",
)
LOG_FORMAT = Variable(
    "BATON_LOG_FORMAT",
    "auto",
    _one_of("auto", "json", "text"),
    "Log format: json or text. auto: text on a terminal, otherwise JSON.",
)
WORKER_NAME = Variable("BATON_WORKER_NAME", "", str, "Name of a worker. Default: its host and device.")
WORKER_DEVICE = Variable(
    "BATON_WORKER_DEVICE",
    "auto",
    _devices,
    "Device of a worker process, or its GPUs, as in cuda:0+cuda:1. `baton up` sets it for each worker.",
)
FLOWER_BASIC_AUTH = Variable(
    "BATON_FLOWER_AUTH",
    "",
    _login,
    "Flower's login as user:password. Default: generated at the first start and kept in BATON_HOME.",
    is_secret=True,
)
FAILPOINT = Variable(
    "BATON_FAILPOINT",
    "",
    read_failpoint,
    "For tests: `name:n`. The process kills itself when it reaches this fail point for the nth time.",
)

VARIABLES: tuple[Variable[Any], ...] = (
    HOST, PORT, FLOWER_PORT, HOME, REDIS_URL, BROKER_URL, APPENDFSYNC, MODEL, MODEL_NAME, DEVICES, DTYPE,
    QUANT, NATIVE, SPECULATION, THREADS, MAX_SLOTS, MAX_MODEL_LEN, MAX_KV_TOKENS, MEMORY_SHARE, API_REPLICAS,
    API_KEYS, ADMIN_KEYS, CORS_ORIGINS, PUBLIC_PAGES, STRICT_PARAMETERS, PING_S, FIRST_OUTPUT_WAIT_S, BODY_LIMIT,
    RECEIPT_S, MAX_READERS, MAX_OPEN_JOBS, MAX_OWNER_MB, MAX_STORED_MB, REDIS_MEMORY_MB, READER_GRACE_S, RETENTION_S,
    LEASE_S, DRAIN_S, LOG_LEVEL, LOG_FORMAT,
    WORKER_NAME, WORKER_DEVICE, FLOWER_BASIC_AUTH, FAILPOINT,
)  # fmt: skip

_PLACEHOLDERS = ("changeme", "change-me", "<", "your-")


#: What Kubernetes sets in every pod of a namespace for a service that is called baton, baton-api or the like
#: (https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables).
_SERVICE_LINK = re.compile(
    r"BATON_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes has set this variable, and not a person. It may have the name of a setting: BATON_PORT."""
    if not name.startswith("BATON_"):
        return False
    return bool(_SERVICE_LINK.fullmatch(name)) or (
        name.endswith("_PORT") and bool(_SERVICE_ADDRESS.match(value))
    )


def without_service_links(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that a person has set."""
    return {name: value for name, value in environ.items() if not is_service_link(name, value)}


def ignored_service_links(environ: Mapping[str, str]) -> str:
    """A line for the log that says what is ignored and why, or an empty string."""
    links = sorted(name for name, value in environ.items() if is_service_link(name, value))
    if not links:
        return ""
    return (
        f"ignoring {', '.join(links)}: Kubernetes sets them for services whose names begin with baton;"
        " enableServiceLinks: false in the pod's spec avoids them"
    )


class Environment:
    """The checked variables of one process. Raises SettingsError, which names the variable.

    Kubernetes' service links are ignored. An entry point logs `ignored`, if it is not empty.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = without_service_links(environ)
        self.ignored = ignored_service_links(environ)
        known = [variable.name for variable in VARIABLES]
        for name in self._environ:
            if name.startswith("BATON_") and name not in known:
                near = difflib.get_close_matches(name, known, 1)
                raise SettingsError(
                    f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else "")
                )

    def read(self, variable: Variable[T]) -> T:
        text = self._environ.get(variable.name, "").strip() or variable.default
        # Paths stay as Python has decoded them, since it encodes them in the same way again.
        if variable.name not in (HOME.name, MODEL.name):
            text = _as_utf_8(variable.name, text)
        shown = variable.name if variable.is_secret else f"{variable.name}={text}"
        if text.lower().startswith(_PLACEHOLDERS):
            raise SettingsError(f"{shown} is still a placeholder")
        try:
            return variable.read(text)
        except ValueError as error:
            raise SettingsError(f"{shown}: {error}") from error


def _as_utf_8(name: str, text: str) -> str:
    """The variable's bytes in UTF-8. Python has decoded them by the locale, which may have another encoding."""
    try:
        return os.fsencode(text).decode()
    except UnicodeError as error:
        raise SettingsError(f"{name} is not UTF-8 text; write it in UTF-8") from error


def is_loopback(host: str) -> bool:
    """Whether a server that listens on `host` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
