"""WordProxy: stands between Baton and Redis, and answers chosen commands with an error, cuts, delays or garbles."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, get_args

from shared.store import scripts

#: What happens to a command. `error`: Redis itself answers with the rule's text instead of running the command. `cut`:
#: the connection ends before the command. `cut after`: the command runs, its reply is lost. `garble`: the reply's
#: first bytes are others.
Act = Literal["error", "cut", "cut after", "delay", "garble"]
_DELAY_S = 0.3
_CHUNK = 65_536
_SCRIPTS = {
    hashlib.sha1(scripts.source(name).encode()).hexdigest().encode(): name
    for name in get_args(scripts.ScriptName)
}


@dataclass(slots=True)
class Rule:
    """What to do with the next commands of a kind, or of every kind."""

    #: As `kind_of` names it; None: every one.
    kind: str | None
    act: Act
    #: The error's word and message.
    text: str = ""
    #: To so many commands of each kind.
    times: int = 1
    hits: Counter[str] = field(default_factory=Counter)

    def takes(self, kind: str) -> bool:
        """Whether this command is one of them. Counts it."""
        if self.kind not in (None, kind) or self.hits[kind] >= self.times:
            return False
        self.hits[kind] += 1
        return True


def kind_of(command: list[bytes]) -> str:
    """The name of a command, or of the script that it calls."""
    name = command[0].decode("latin-1").upper()
    if name == "EVALSHA" and len(command) > 1:
        return f"script {_SCRIPTS.get(command[1], '?')}"
    if name in ("SCRIPT", "CLIENT", "CONFIG", "ACL") and len(command) > 1:
        return f"{name} {command[1].decode('latin-1').upper()}"
    return name


class WordProxy:
    """Runs in a thread of its own, in a `with`."""

    def __init__(self, redis_url: Callable[[], str]) -> None:
        """`redis_url`: of the Redis behind, a Unix socket. It is asked for each connection."""
        self._redis_url = redis_url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._rule: Rule | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        #: How often each kind of command was seen.
        self.seen = Counter[str]()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> WordProxy:
        self._thread.start()
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._accept, "127.0.0.1", 0), self._loop
        ).result(10)
        self._server = server
        self.port = int(server.sockets[0].getsockname()[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def follow(self, rule: Rule | None) -> None:
        """From now on, do this. None: carry everything as it is."""
        self._rule = rule

    async def _stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                behind, server = await asyncio.open_unix_connection(self._redis_url().removeprefix("unix://"))
                await _Link(self, reader, writer, behind, server).carry()
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    def judge(self, kind: str) -> Rule | None:
        """What to do with this command; None: nothing."""
        self.seen[kind] += 1
        rule = self._rule
        return rule if rule is not None and rule.takes(kind) else None


@dataclass
class _Link:
    """One client's connection and the one behind it."""

    proxy: WordProxy
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    behind: asyncio.StreamReader
    server: asyncio.StreamWriter
    #: What happens to the next piece of replies.
    next_reply: Act | None = None

    async def carry(self) -> None:
        down = asyncio.create_task(self._carry_replies())
        try:
            await self._carry_commands()
        finally:
            down.cancel()
            await asyncio.gather(down, return_exceptions=True)
            self.server.transport.abort()

    async def _carry_commands(self) -> None:
        while command := await _read_command(self.reader):
            rule = self.proxy.judge(kind_of(command))
            if rule is not None:
                match rule.act:
                    case "cut":
                        return
                    case "error":
                        # Redis answers in the right order also among pipelined commands.
                        command = [b"EVAL", b"return redis.error_reply(ARGV[1])", b"0", rule.text.encode()]
                    case "delay":
                        await asyncio.sleep(_DELAY_S)
                    case "cut after" | "garble":
                        self.next_reply = rule.act
            self.server.write(_packed(command))
            await self.server.drain()

    async def _carry_replies(self) -> None:
        with suppress(OSError):
            while piece := await self.behind.read(_CHUNK):
                act, self.next_reply = self.next_reply, None
                if act == "cut after":
                    break
                self.writer.write(b"?\xff\x00garbled\r\n" + piece if act == "garble" else piece)
                await self.writer.drain()
        self.writer.transport.abort()


async def _read_command(reader: asyncio.StreamReader) -> list[bytes]:
    """One command as clients send it, an array of bulk strings; empty at the end."""
    line = await reader.readline()
    if not line.startswith(b"*"):
        return []
    parts: list[bytes] = []
    for _ in range(int(line[1:])):
        size = int((await reader.readline())[1:])
        parts.append((await reader.readexactly(size + 2))[:-2])
    return parts


def _packed(command: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(command) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in command)
