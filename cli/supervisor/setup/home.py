"""BATON_HOME: its directories, and the lock that keeps a second `baton up` from using it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import psutil

from cli.errors import StartRefused

#: How long the children of a killed `baton up` may take to end.
_LOCK_WAIT_S = 3.0


class Home:
    """The paths in BATON_HOME. Nothing is created before `make`."""

    def __init__(self, path: Path) -> None:
        # Unlike Path.expanduser, this bears a user without a home directory.
        self.path = Path(os.path.expanduser(path)).resolve()
        self.redis = self.path / "redis"
        self.logs = self.path / "logs"
        self.models = self.path / "models"
        self._run = self.path / "run"
        self.flower_password = self.path / "flower.password"

    def make(self) -> None:
        """Create the directories for this user only: they hold prompts and passwords. Raises StartRefused."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for directory in (self.redis, self.logs, self.models, self._run):
                directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StartRefused(
                f"cannot create BATON_HOME={self.path}: {error.strerror}; set it to a writable directory"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Lock the home; yields the lock's file descriptor. Raises StartRefused.

        Children inherit the descriptor, so the home stays locked until the last of them has ended.
        """
        lock = os.open(self._run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            owner = os.pread(lock, 32, 0).decode().strip()
            is_alive = owner.isdigit() and psutil.pid_exists(int(owner))
            if not _try_lock(lock, 0 if is_alive else _LOCK_WAIT_S):
                raise StartRefused(
                    f"another `baton up` (process {owner}) is using {self.path};"
                    " stop it, or set BATON_HOME to another directory"
                )
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
            yield lock
        finally:
            os.close(lock)

    @contextmanager
    def own_log(self) -> Iterator[TextIO]:
        """The log of `baton up` itself; its terminal output is not kept anywhere else."""
        number = os.open(self.logs / "up.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(number, "a", encoding="utf-8", errors="backslashreplace") as log:
            yield log

    @property
    def is_locked(self) -> bool:
        """Whether a `baton up`, or one of its children, is running in this home."""
        try:
            lock = os.open(self._run / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # it does not exist, or belongs to another user
            return False
        try:
            return not _try_lock(lock, 0)
        finally:
            os.close(lock)


def _try_lock(descriptor: int, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
