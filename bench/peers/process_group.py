"""Starts and stops a server with all its processes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from bench.peers.accounting import Usage, peak_mib, running_processes, tree_of

#: How long a server may take to stop.
_STOP_S = 20


class ProcessGroup:
    """Runs `command` in its own session and appends its output to `log`."""

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        log: Path,
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
    ) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
        with log.open("ab") as file:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                env={**clean, **environ},
                stdin=stdin,
                stdout=file if stdout is None else stdout,
                stderr=file,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        """Its stdin and stdout, if both were opened as pipes."""
        assert self._process.stdin is not None and self._process.stdout is not None
        return self._process.stdin, self._process.stdout

    def usage(self) -> Usage:
        return Usage.now(self.pid)

    def peak_mib(self) -> float:
        return peak_mib(self.pid)

    def stop(self) -> None:
        """Sends Ctrl-C, and kills what is still running after a while."""
        members = {(one.pid, one.started) for one in tree_of(self.pid, running_processes())}
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid, _ in members & {(one.pid, one.started) for one in running_processes()}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
