"""Versions of Redis, and which of them may open the data in a home.

A Redis that cannot read the data that is there does not always say so: Redis 6 looks for another file than Redis 7 and
starts empty. So the version that wrote the data stands beside them.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from cli.errors import StartRefused

#: The last version whose files Redis and Valkey share.
_LAST_COMMON = (7, 2)
#: The first one that keeps its append-only file in a folder of its own.
_FIRST_WITH_FOLDER = (7, 0)


class RedisVersion(NamedTuple):
    """The version of a server."""

    product: str
    major: int
    minor: int
    patch: int = 0

    def __str__(self) -> str:
        return f"{self.product} {self.major}.{self.minor}.{self.patch}"

    @classmethod
    def of(cls, binary: str) -> RedisVersion:
        """Ask a server's binary. Raises StartRefused if it does not run, or is something else."""
        try:
            answer = subprocess.run(
                [binary, "--version"],
                capture_output=True,
                timeout=10,
                check=True,
                encoding="utf-8",
                errors="replace",
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise StartRefused(f"{binary} does not run: {error}") from error
        found = re.match(r"(\w+) server v=(\d+)\.(\d+)\.(\d+)", answer.stdout)
        if found is None:
            raise StartRefused(f"{binary} is no Redis and no Valkey; it says {answer.stdout[:80]!r}")
        return cls(found[1].lower(), *map(int, found.groups()[1:]))

    @classmethod
    def parse(cls, text: str) -> RedisVersion | None:
        """The inverse of `str`. None: it is something else."""
        found = re.fullmatch(r"(\w+) (\d+)\.(\d+)\.(\d+)", text.strip())
        return None if found is None else cls(found[1], *map(int, found.groups()[1:]))

    def reads(self, data: RedisVersion) -> bool:
        """Whether this server reads what that one wrote."""
        is_common = self.product == data.product or (data.major, data.minor) <= _LAST_COMMON
        return is_common and (self.major, self.minor) >= (data.major, data.minor)


class RedisData:
    """The data directory of the Redis of `baton up`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._version = directory / "version"
        self._file = directory / "appendonly.aof"
        self._folder = directory / "appendonlydir"

    @property
    def written_by(self) -> RedisVersion | None:
        """The version that wrote the data, if that is known."""
        if self._version.exists():
            return RedisVersion.parse(self._version.read_text(encoding="utf-8"))
        return RedisVersion("redis", *_FIRST_WITH_FOLDER) if self._folder.exists() else None

    def keep_version(self, version: RedisVersion) -> None:
        """Note that this version has opened the data. Raises OSError."""
        if self.written_by != version or not self._version.exists():
            self._version.touch(mode=0o600)
            self._version.write_text(f"{version}\n", encoding="utf-8")

    def check(self) -> None:
        """Raises StartRefused if any Redis would start empty, or with older data, without a word."""
        if self._file.exists() and self._folder.exists():
            raise StartRefused(
                f"{self.directory} has the data of two versions of Redis, {self._file.name} and {self._folder.name};"
                " move the one that you do not need to another place"
            )
        if self._file.exists() or self._folder.exists():
            return
        if self._version.exists():
            raise StartRefused(
                f"{self.directory} had data of {self.written_by} and has no append-only file now, so Redis would start"
                f" empty; restore the file, or remove {self._version} to start empty"
            )
        if (self.directory / "dump.rdb").exists():
            raise StartRefused(
                f"{self.directory} has a dump.rdb and no append-only file, so Redis would start empty; let a Redis with"
                " `appendonly yes` make the file from it (CONFIG SET appendonly yes), or move it to another place"
            )
