"""Whether the Redis of the jobs keeps what it is given, and agrees with this machine about the time."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from typing import Any

from cli.checks.finding import Finding
from cli.errors import StartRefused
from cli.supervisor.embedded_redis import redis_binary, socket_path
from cli.supervisor.setup.home import Home
from shared.errors import StoreUnavailable
from shared.store.redis_client import connect, unavailable_as_error

#: The first with NOMKSTREAM, without which a stream that is gone would be made again.
_LEAST = (6, 2)
_LARGEST_SKEW_S = 1.0
_TIMEOUT_S = 3

#: What INFO tells, and by how many seconds the server's clock is ahead.
JobInfo = tuple[dict[str, Any], float]


def check_redis(url: str, broker_url: str, home: Home) -> list[Finding]:
    """The one that a URL names, or the one that `baton up` starts."""
    if not url:
        return [_check_binary(), *(_check_server("redis", _own_url(home)) if home.is_locked else [])]
    found = _check_server("redis", url)
    if broker_url not in ("", url):
        found += [finding for finding in _check_server("broker", broker_url) if finding.check == "broker"]
    return found


def _own_url(home: Home) -> str:
    return f"unix://{socket_path(home.redis)}"


def _check_binary() -> Finding:
    advice = "install Redis or Valkey, or name a server with BATON_REDIS_URL"
    try:
        binary = redis_binary()
        answer = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=True)
    except StartRefused as error:
        return Finding("redis", "fail", str(error), advice)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("redis", "fail", f"{binary} does not run: {error}", advice)
    found = re.search(r"v=(\d+)\.(\d+)\S*", answer.stdout)
    if found is None or (int(found[1]), int(found[2])) < _LEAST:
        return Finding("redis", "fail", f"{binary} is no Redis 6.2 or later", advice)
    return Finding("redis", "ok", f"{found[0][2:]}, started by `baton up` ({binary})")


def _check_server(name: str, url: str) -> list[Finding]:
    advice = f"start it, or mend BATON_{name.upper()}_URL"
    try:
        info, ahead_s = asyncio.run(_ask(url))
    except (StoreUnavailable, ValueError) as error:
        return [Finding(name, "fail", f"no answer: {error}", advice)]
    return [*judge_server(name, info), judge_clock(ahead_s)]


def judge_server(name: str, info: dict[str, Any]) -> list[Finding]:
    """What INFO says of a server; for a broker only that it is there and evicts nothing."""
    version = str(info.get("redis_version", "0.0"))
    found: list[Finding] = []
    if tuple(map(int, version.split(".")[:2])) < _LEAST:
        found.append(Finding(name, "fail", f"version {version}", "use Redis 6.2 or later, or Valkey"))
    if info.get("cluster_enabled"):
        found.append(
            Finding(name, "fail", "a cluster", "use one primary: the scripts touch keys of any slot")
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        advice = "CONFIG SET maxmemory-policy noeviction: else Redis throws jobs away when its memory is full"
        found.append(Finding(name, "fail", f"maxmemory-policy {policy}", advice))
    if name == "redis" and not info.get("aof_enabled"):
        advice = "CONFIG SET appendonly yes and appendfsync always: else its restart loses jobs and tokens"
        found.append(Finding(name, "warn", "no append-only file", advice))
    return found or [Finding(name, "ok", f"{version} answers")]


def judge_clock(ahead_s: float) -> Finding:
    """Deadlines go by Redis's clock, lists and logs by this machine's."""
    if abs(ahead_s) > _LARGEST_SKEW_S:
        detail = f"Redis's clock differs by {ahead_s:+.1f} s"
        return Finding("clock", "warn", detail, "let both machines follow NTP")
    return Finding("clock", "ok", "agrees with Redis's")


async def _ask(url: str) -> JobInfo:
    """Raises StoreUnavailable, ValueError for what is no URL."""
    redis = connect(url, timeout_s=_TIMEOUT_S)
    try:
        with unavailable_as_error():
            info = await redis.info()
            before = time.time()
            seconds, micros = await redis.time()
        # Half of the way there and back.
        return info, seconds + micros / 1e6 - (before + time.time()) / 2
    finally:
        await redis.aclose()
