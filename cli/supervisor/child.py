"""One process that `baton up` runs, and its log."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cli.supervisor.parent_death import ends_with_parent
from cli.supervisor.plan import ChildPlan
from cli.supervisor.state_file import ChildState, State

#: A log that is larger than this when its process starts becomes `<id>.log.1`.
_LOG_LIMIT = 10 << 20
_TAIL_BYTES = 16_384


class Child:
    """A process that is started again after it dies.

    It leads its own process group, so that Ctrl-C in a terminal reaches only `baton up`.
    """

    def __init__(self, plan: ChildPlan, logs: Path, lock: int) -> None:
        self.plan = plan
        self.state: State = "starting"
        #: Why the process last ended, and when it starts again.
        self.exit_reason = ""
        #: When it became ready since its latest start, on the monotonic clock. None: not yet.
        self.ready_at: float | None = None
        self.log = logs / f"{plan.id}.log"
        self._lock = lock
        self._log_start = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """None while it is not running."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def last_pid(self) -> int | None:
        """The process id of the latest start, whether it still runs or not."""
        return self._process.pid if self._process else None

    @property
    def report(self) -> ChildState:
        plan = self.plan
        return ChildState(plan.role, plan.id, self.pid, plan.url, plan.device, self.state)

    async def start(self) -> None:
        """Start the process. Its output goes to the log. Raises OSError."""
        self.ready_at = None
        with self._open_log() as log:
            self._process = await asyncio.create_subprocess_exec(
                *ends_with_parent(self.plan.command),
                env=dict(self.plan.environ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # What it writes is for this user alone: Redis's file has prompts and answers.
                umask=0o077,
                pass_fds=(self._lock,),
            )
        if self.plan.role != "worker":
            _lower_priority(self._process.pid)
        self.state = "starting"

    async def wait(self) -> int:
        """Waits for the process to end and returns its exit status; negative: the signal that killed it."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self, grace_s: float) -> None:
        """Sends SIGTERM, and SIGKILL if the process is still running after `grace_s`."""
        if self._process is not None and self.pid is not None:
            self._process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), grace_s)
            self.kill()
            await self._process.wait()
        if self.state != "failed":
            self.state = "stopped"

    def kill(self) -> None:
        """Kills the process and everything it started. Call this while it runs or right after it ended."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def last_lines(self, limit: int) -> list[str]:
        """The last lines that the process wrote since its latest start."""
        if self._process is None:
            return []
        try:
            with self.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, size - _TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:
            return []
        return [line for line in text.splitlines() if line.strip()][-limit:]

    @contextmanager
    def _open_log(self) -> Iterator[int]:
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
            self.log.replace(self.log.with_name(self.log.name + ".1"))
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._log_start = os.fstat(log).st_size
            yield log
        finally:
            os.close(log)


def _lower_priority(pid: int) -> None:
    """Keeps a process from preempting a worker's compute threads as soon as it wakes up.

    One interrupted thread delays a whole step of the model. See SCHED_BATCH in
    https://man7.org/linux/man-pages/man7/sched.7.html.
    """
    if hasattr(os, "SCHED_BATCH"):
        with suppress(OSError):  # it has ended or this is not permitted; nothing depends on it
            os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))
