"""Checks that Redis keeps the data it is given, and that its clock agrees with this machine's."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from cli.checks.finding import Finding
from cli.errors import StartRefused
from cli.supervisor.embedded_redis import redis_binary, socket_path
from cli.supervisor.setup.home import Home
from shared.errors import StoreUnavailable
from shared.store.redis_client import connect, unavailable_as_error

#: The first version with NOMKSTREAM. Without it, writing to a deleted stream would create it again.
_MIN_VERSION = (6, 2)
_LARGEST_SKEW_S = 1.0
_TIMEOUT_S = 3

#: The reply to INFO, and how many seconds the server's clock is ahead.
ServerInfo = tuple[dict[str, Any], float]


def check_redis(url: str, broker_url: str, home: Home) -> list[Finding]:
    """Checks the server at the URL, or else the Redis that `baton up` starts."""
    if not url:
        return [_check_binary(home), *(_check_server("redis", _own_url(home)) if home.is_locked else [])]
    found = _check_server("redis", url)
    if broker_url not in ("", url):
        found += [finding for finding in _check_server("broker", broker_url) if finding.check == "broker"]
    return found


def _own_url(home: Home) -> str:
    return f"unix://{socket_path(home.redis)}"


def _check_binary(home: Home) -> Finding:
    advice = "install Redis 6.2 or later, or Valkey, or set BATON_REDIS_URL to a running server"
    try:
        binary = redis_binary(home.redis)
    except StartRefused as error:
        return Finding("redis", "fail", str(error), advice)
    if (binary.version.major, binary.version.minor) < _MIN_VERSION:
        return Finding("redis", "fail", f"{binary.path} is not Redis 6.2 or later", advice)
    return Finding("redis", "ok", f"{binary.version}, started by `baton up` ({binary.path})")


def _check_server(name: str, url: str) -> list[Finding]:
    advice = f"start the server, or correct BATON_{name.upper()}_URL"
    try:
        info, ahead_s = asyncio.run(_query(url))
    except StoreUnavailable as error:
        return [Finding(name, "fail", f"no answer: {error}", advice)]
    return [*judge_server(name, info), judge_clock(ahead_s)]


def judge_server(name: str, info: dict[str, Any]) -> list[Finding]:
    """Judges a server by its INFO. A broker only has to be recent enough and must not evict keys."""
    version = str(info.get("redis_version", "0.0"))
    found: list[Finding] = []
    if tuple(map(int, version.split(".")[:2])) < _MIN_VERSION:
        found.append(Finding(name, "fail", f"version {version}", "use Redis 6.2 or later, or Valkey"))
    if info.get("cluster_enabled"):
        found.append(
            Finding(
                name,
                "fail",
                "Redis Cluster is not supported",
                "use one primary: the scripts access keys of any slot",
            )
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        advice = (
            "run CONFIG SET maxmemory-policy noeviction; otherwise Redis deletes jobs when its memory is full"
        )
        found.append(Finding(name, "fail", f"maxmemory-policy {policy}", advice))
    if name == "redis" and not info.get("aof_enabled"):
        advice = (
            "run CONFIG SET appendonly yes and appendfsync always; otherwise a restart of Redis loses jobs"
        )
        found.append(Finding(name, "warn", "the append-only file is off", advice))
    return found or [Finding(name, "ok", f"{version} answers")]


def judge_clock(ahead_s: float) -> Finding:
    """Deadlines use Redis's clock; lists and logs use this machine's."""
    if abs(ahead_s) > _LARGEST_SKEW_S:
        detail = f"Redis's clock differs by {ahead_s:+.1f} s"
        return Finding("clock", "warn", detail, "synchronize both machines with NTP")
    return Finding("clock", "ok", "agrees with Redis's clock")


async def _query(url: str) -> ServerInfo:
    """Raises StoreUnavailable."""
    redis = connect(url, timeout_s=_TIMEOUT_S)
    try:
        with unavailable_as_error():
            info = await redis.info()
            before = time.time()
            seconds, micros = await redis.time()
        # Compare with the middle of the round trip.
        return info, seconds + micros / 1e6 - (before + time.time()) / 2
    finally:
        await redis.aclose()
