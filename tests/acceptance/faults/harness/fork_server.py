"""ForkServer: starts Baton's processes quickly, as forks of one that has imported everything already.

A fork is a process like any other: it has its own connections and threads, and dies of `kill -9`. What is
saved are the seconds that imports take, so that a thousand deaths fit into half an hour.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

#: Lines of orders and reports are never longer.
_LIMIT = 1 << 20
#: Until the first birth everything is imported, on a machine that may have much else to do.
_BIRTH_S = 180.0


@dataclass(eq=False)
class Life:
    """One process, from its birth to its end."""

    pid: int
    log: Path
    born_at: float = field(default_factory=time.monotonic)
    _ended: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def is_over(self) -> bool:
        return self._ended.done()

    def signal(self, number: signal.Signals) -> None:
        """Nothing, when it is over."""
        if not self.is_over:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def end(self, status: int) -> None:
        if not self._ended.done():
            self._ended.set_result(status)

    async def status(self, within_s: float = 20) -> int:
        """Its exit status once it is over; negative: the signal that ended it."""
        async with asyncio.timeout(within_s):
            return await asyncio.shield(self._ended)

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


class ForkServer:
    """To be used in an `async with`; on its end all its processes are killed.

    With `tree` all code is that of another checkout, also the fork_server's own.
    """

    def __init__(self, *modules: str, tree: Path | None = None) -> None:
        self._modules = modules
        self._tree = tree
        self._process: asyncio.subprocess.Process | None = None
        self._reports: asyncio.Task[None] | None = None
        self._births: asyncio.Queue[int] = asyncio.Queue()
        self._lives: dict[int, Life] = {}
        #: Ends that were reported before their birth was noticed here.
        self._early: dict[int, int] = {}
        self._ordering = asyncio.Lock()

    async def __aenter__(self) -> ForkServer:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__, *self._modules),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LIMIT,
            cwd=self._tree,
            env=None if self._tree is None else {**os.environ, "PYTHONPATH": str(self._tree)},
        )
        self._reports = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None and self._process.stdin is not None and self._reports is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reports

    async def start(
        self, module: str, environ: Mapping[str, str], log: Path, arguments: tuple[str, ...] = ()
    ) -> Life:
        """`python -m <module> <arguments>` with these variables and no other BATON_* ones."""
        assert self._process is not None and self._process.stdin is not None
        order = {"module": module, "environ": dict(environ), "log": str(log), "arguments": arguments}
        async with self._ordering:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            async with asyncio.timeout(_BIRTH_S):
                pid = await self._births.get()
        life = self._lives[pid] = Life(pid, log)
        if pid in self._early:
            life.end(self._early.pop(pid))
        return life

    async def _listen(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        while line := await self._process.stdout.readline():
            pid, status = json.loads(line)
            if status is None:
                self._births.put_nowait(pid)
            elif pid in self._lives:
                self._lives.pop(pid).end(status)
            else:
                self._early[pid] = status


# In the process that forks


def main() -> None:
    """Take orders from stdin until it ends; tell births and ends on stdout."""
    for module in sys.argv[1:]:
        importlib.import_module(module)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    living: set[int] = set()
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(reader, selectors.EVENT_READ)
        rest = b""
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if reader in ready:
                os.read(reader, 65_536)
                _report_ends(living)
            if 0 in ready:
                received = os.read(0, 65_536)
                if not received:
                    break
                *orders, rest = (rest + received).split(b"\n")
                for order in orders:
                    pid = os.fork()
                    if pid == 0:
                        _live(json.loads(order))
                    living.add(pid)
                    _tell(pid, None)
    for pid in living:
        os.kill(pid, signal.SIGKILL)


def _report_ends(living: set[int]) -> None:
    while living:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        living.discard(pid)
        _tell(pid, os.waitstatus_to_exitcode(status))


def _tell(pid: int, status: int | None) -> None:
    os.write(1, json.dumps([pid, status]).encode() + b"\n")


def _live(order: dict[str, Any]) -> NoReturn:
    """Become the process that was asked for."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, 256)
    for name in [name for name in os.environ if name.startswith("BATON_")]:
        del os.environ[name]
    os.environ.update(order["environ"])
    sys.argv = [order["module"], *order["arguments"]]
    status = 1
    try:
        status = importlib.import_module(order["module"]).main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
