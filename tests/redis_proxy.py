"""RedisProxy: carries connections to Redis, and spoils them as a test says.

    with RedisProxy(server.url) as proxy:
        client = connect(proxy.url, timeout_s=1)
        proxy.mode = Refuse("BUSY Redis is busy running a script.")
        proxy.mode = Pass()

It runs in a thread of its own, so tests of any kind can use it, and processes that they start. A mode holds for all
connections, from the next command or reply on.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal
from urllib.parse import urlsplit

_CHUNK = 65_536

#: What Redis 6 to 8 and Valkey answer instead of a result, and what a later version might.
REFUSALS = (
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "BUSYGROUP Consumer Group name already exists",
    "BUSYKEY Target key name already exists.",
    "CLUSTERDOWN The cluster is down",
    "CROSSSLOT Keys in request don't hash to the same slot",
    "DENIED Redis is running in protected mode because protected mode is enabled",
    "ERR Error writing to the append only file: No space left on device",
    "ERR max number of clients reached",
    "ERR operation not permitted",
    "ERR unknown command `EVALSHA`, with args beginning with: `0`, ",
    "ERR Protocol error: invalid bulk length",
    "ERR EXEC without MULTI",
    "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration"
    " is correct?",
    "ERR DB index is out of range",
    "EXECABORT Transaction discarded because of previous errors.",
    "FAILOVER The server is failing over",
    "INPROG Failover already in progress.",
    "IOERR error or timeout reading to target instance",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "MISCONF Redis is configured to save RDB snapshots, but it is currently not able to persist on disk.",
    "MOVED 3999 127.0.0.1:6381",
    "ASK 3999 127.0.0.1:6381",
    "MOVED nowhere",
    "NOADDR unknown address",
    "NOAUTH Authentication required.",
    "NOGOODSLAVE No suitable replica to promote",
    "NOMASTERLINK Can't SYNC while not connected with my master",
    "NOPERM this user has no permissions to run the 'evalsha' command",
    "NOPROTO unsupported protocol version",
    "NOQUORUM Not enough available Sentinels",
    "NOREPLICAS Not enough good replicas to write.",
    "NOSCRIPT No matching script. Please use EVAL.",
    "NOTBUSY No scripts in execution right now.",
    "NOTREADY the server is not ready",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "PERSISTENCE cannot write",
    "READONLY You can't write against a read only replica.",
    "REDIRECT 127.0.0.1:6380",
    "SYNTAX error",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "UNBLOCKED client unblocked via CLIENT UNBLOCK",
    "UNKILLABLE Sorry the script already executed write commands against the dataset.",
    "VERSIONMISMATCH a word of a later version",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "a text without a word",
    "",
)


@dataclass(frozen=True, slots=True)
class Pass:
    """Everything comes through."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Redis does nothing and answers `-<text>`. `commands`, in capitals: only these; empty: all."""

    text: str
    commands: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection ends before the command is done, or after it was done: before its reply or in the middle of it."""

    at: Literal["command", "reply", "middle"]


@dataclass(frozen=True, slots=True)
class Delay:
    """Each reply comes this much later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Silence:
    """A connection that is used becomes dead, and stays so: it takes everything and answers nothing."""


class Garble:
    """Some bytes of this share of the replies are other ones."""

    def __init__(self, seed: int, share: float = 1.0) -> None:
        self._random = random.Random(seed)
        self._share = share

    def spoil(self, reply: bytes) -> bytes:
        if self._random.random() >= self._share:
            return reply
        spoilt = bytearray(reply)
        for _ in range(self._random.randint(1, 3)):
            at = self._random.randrange(len(spoilt) + 1)
            match self._random.choice(("change", "insert", "delete", "double")):
                case "change" if at < len(spoilt):
                    spoilt[at] = self._random.randrange(256)
                case "insert":
                    spoilt[at:at] = self._random.randbytes(self._random.randint(1, 4))
                case "delete":
                    del spoilt[at : at + self._random.randint(1, 4)]
                case _:
                    spoilt[at:at] = spoilt[max(0, at - 8) : at]
        return bytes(spoilt)


Mode = Pass | Refuse | Cut | Delay | Silence | Garble


class RedisProxy:
    """Listens on a port of 127.0.0.1 for the Redis at `target`, a URL like `unix:///…/redis.sock` or `redis://…`."""

    def __init__(self, target: str, *, port: int = 0) -> None:
        self._target = urlsplit(target)
        self.mode: Mode = Pass()
        self.port = port
        #: Commands that were refused, and replies that were delayed, cut off or garbled.
        self.num_spoilt = 0
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._is_listening = threading.Event()
        self._is_over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="redis-proxy", daemon=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> RedisProxy:
        self._thread.start()
        assert self._is_listening.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._is_over.set)
        self._thread.join()

    def cut_all(self) -> None:
        """End every connection that is there, with RST. New ones are taken."""
        self._loop.call_soon_threadsafe(self._reset_all)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=_CHUNK)
        self.port = int(server.sockets[0].getsockname()[1])
        self._is_listening.set()
        await self._is_over.wait()
        server.close()
        self._reset_all()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind, server = await self._connect()
        except OSError:
            return _abort(writer)
        link = _Link(self, reader, writer, behind, server)
        self._links.add(link)
        try:
            await link.carry()
        finally:
            self._links.discard(link)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._target.scheme == "unix":
            return await asyncio.open_unix_connection(self._target.path, limit=_CHUNK)
        return await asyncio.open_connection(
            self._target.hostname or "127.0.0.1", self._target.port or 6379, limit=_CHUNK
        )

    def _reset_all(self) -> None:
        for link in self._links:
            link.reset()


@dataclass(eq=False)
class _Link:
    """One client's connection and the one behind it."""

    proxy: RedisProxy
    reader: asyncio.StreamReader
    client: asyncio.StreamWriter
    behind: asyncio.StreamReader
    server: asyncio.StreamWriter
    #: For each command that was not answered yet: what to answer, or None for the server's reply.
    due: deque[bytes | None] = field(default_factory=deque)
    #: A subscribed connection hears messages that answer no command.
    is_subscribed: bool = False
    is_dead: bool = False

    async def carry(self) -> None:
        pumps = [asyncio.create_task(self._carry_up()), asyncio.create_task(self._carry_down())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.reset()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    def reset(self) -> None:
        _abort(self.client)
        _abort(self.server)

    async def _carry_up(self) -> None:
        data = b""
        with suppress(OSError):
            while piece := await self.reader.read(_CHUNK):
                data += piece
                while (end := _frame_end(data, 0)) is not None:
                    command, data = data[:end], data[end:]
                    if not self._take(command):
                        return
                await self.server.drain()

    def _take(self, command: bytes) -> bool:
        """Pass a command on, or answer it. False: the connection is to end."""
        mode = self.proxy.mode
        match mode:
            case Cut("command"):
                self.proxy.num_spoilt += 1
                return False
            case Silence():
                self.proxy.num_spoilt += 1
                self.is_dead = True
            case Refuse(text, commands) if not commands or _name(command) in commands:
                self.proxy.num_spoilt += 1
                self.due.append(b"-" + text.encode() + b"\r\n")
                self._answer_refused()
                return True
        if not self.is_dead:
            self.is_subscribed |= _name(command) in ("SUBSCRIBE", "PSUBSCRIBE")
            self.due.append(None)
            self.server.write(command)
        return True

    def _answer_refused(self) -> None:
        """Send the answers that no reply of the server has to precede."""
        if self.is_subscribed:
            self.due = deque(one for one in self.due if one is not None)
        while self.due and self.due[0] is not None:
            self.client.write(self.due.popleft() or b"")

    async def _carry_down(self) -> None:
        data = b""
        with suppress(OSError):
            while piece := await self.behind.read(_CHUNK):
                data += piece
                while (end := _frame_end(data, 0)) is not None:
                    reply, data = data[:end], data[end:]
                    if not await self._hand_on(reply):
                        return
                await self.client.drain()

    async def _hand_on(self, reply: bytes) -> bool:
        """Send the client a reply of the server. False: the connection is to end."""
        mode = self.proxy.mode
        match mode:
            case Cut("reply" | "middle"):
                self.proxy.num_spoilt += 1
                if mode.at == "middle":
                    self.client.write(reply[: len(reply) // 2])
                    await self.client.drain()
                return False
            case Delay(seconds):
                self.proxy.num_spoilt += 1
                await asyncio.sleep(seconds)
            case Garble():
                self.proxy.num_spoilt += 1
                reply = mode.spoil(reply)
            case Silence():
                self.is_dead = True
        if not self.is_dead:
            if self.due and self.due[0] is None:
                self.due.popleft()
            self.client.write(reply)
            self._answer_refused()
        return True


def _frame_end(data: bytes, at: int) -> int | None:
    """Where the RESP2 value that begins at `at` ends; None if it is not complete."""
    line_end = data.find(b"\r\n", at)
    if line_end < 0:
        return None
    end: int | None = line_end + 2
    length = int(data[at + 1 : line_end]) if data[at : at + 1] in (b"$", b"*") else -1
    if data[at : at + 1] == b"$" and length >= 0:
        return line_end + length + 4 if len(data) >= line_end + length + 4 else None
    for _ in range(max(0, length)):
        end = None if end is None else _frame_end(data, end)
    return end


def _name(command: bytes) -> str:
    """The command's first word in capitals."""
    return command.split(b"\r\n", 3)[2].decode(errors="replace").upper() if command.startswith(b"*") else ""


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close at once; to a TCP peer with RST."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0 and sock.family == socket.AF_INET:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
