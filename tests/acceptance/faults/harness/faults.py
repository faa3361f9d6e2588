"""Faults: what is done to a running cluster."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from redis.exceptions import RedisError

from shared.errors import StoreUnavailable
from shared.store import keys
from tests.acceptance.faults.harness.cluster import Cluster, Part, Role
from tests.acceptance.faults.harness.plan import FaultKind, Planned
from tests.acceptance.faults.verdict.history import History
from tests.redis_server import RedisServer

#: Replies that one fault swallows at most.
_REPLIES = 12


@dataclass(frozen=True)
class Done:
    """A fault that was done, and the histories that it touched."""

    kind: FaultKind
    at: float
    touched: tuple[History, ...]


class Faults:
    """Does planned faults to a cluster. Those of Redis never overlap."""

    def __init__(self, cluster: Cluster, histories: list[History]) -> None:
        self._cluster = cluster
        self._histories = histories
        self._redis_is_ours = asyncio.Lock()
        self._copy = cluster.home / "earlier.aof"
        self._copied_at = 0.0
        self.done: list[Done] = []

    async def do(self, fault: Planned) -> None:
        """Do it and heal it."""
        subject, _, what = fault.kind.partition(" ")
        if fault.kind == "all workers kill":
            return await self._kill_all(fault)
        if subject == "redis":
            async with self._redis_is_ours:
                return await self._to_redis(fault)
        role: Role = "api" if subject == "api" else "worker"
        parts = [part for part in self._cluster.parts if part.role == role and part.is_alive]
        if what in ("kill", "host lost", "term"):
            parts = [part for part in parts if not part.is_spared]
        if parts:
            await self._to_part(fault, parts[fault.target % len(parts)], what)

    # To processes

    async def _to_part(self, fault: Planned, part: Part, what: str) -> None:
        life = part.life
        assert life is not None
        await self._note(fault, part)
        match what:
            case "kill" | "host lost":
                part.is_supervised = what == "kill"
                life.kill()
            case "term":
                life.signal(signal.SIGTERM)
            case "stop" | "hiccup":
                life.signal(signal.SIGSTOP)
                await asyncio.sleep(fault.lasts_s)
                life.signal(signal.SIGCONT)
            case _:
                await self._to_connection(fault, part, what)

    async def _to_connection(self, fault: Planned, part: Part, what: str) -> None:
        proxy = part.proxy
        harm: dict[str, Callable[[], None]] = {
            "cut": proxy.cut,
            "hole": lambda: proxy.hold("up", "down"),
            "deaf": lambda: proxy.hold("down"),
            "mute": lambda: proxy.hold("up"),
            "swallow": lambda: proxy.swallow(1 + fault.amount % _REPLIES),
            "slow": lambda: proxy.delay(0.03, 0.07),
        }
        harm[what]()
        await asyncio.sleep(fault.lasts_s)
        proxy.heal()

    async def _kill_all(self, fault: Planned) -> None:
        await self._note(fault, None)
        for part in self._cluster.workers:
            if part.life is not None and not part.is_spared:
                part.is_supervised = False
                part.life.kill()

    # To Redis

    async def _to_redis(self, fault: Planned) -> None:
        await self._note(fault, None)
        server = self._cluster.redis
        match fault.kind:
            case "redis kill":
                await self._restart(fault, lambda: None)
            case "redis tail cut":
                self._excuse(time.monotonic() - 2)
                await self._restart(fault, lambda: cut_tail(server, fault.amount))
            case "redis set back":
                if self._copied_at:
                    self._excuse(self._copied_at)
                    await self._restart(fault, self._set_back)
            case "redis stop":
                server.signal(signal.SIGSTOP)
                await asyncio.sleep(fault.lasts_s)
                server.signal(signal.SIGCONT)
            case "redis sleep":
                with suppress(RedisError):
                    await self._cluster.client.execute_command(  # type: ignore[no-untyped-call]
                        "DEBUG", "SLEEP", fault.lasts_s
                    )
            case "redis full":
                await self._fill_memory(fault.lasts_s)
            case "redis disk full":
                await self._fill_disk(fault.lasts_s)

    async def _restart(self, fault: Planned, between: Callable[[], object]) -> None:
        await asyncio.to_thread(self._cluster.redis.kill)
        between()
        await asyncio.sleep(fault.lasts_s)
        await asyncio.to_thread(self._cluster.redis.start)

    async def _fill_memory(self, lasts_s: float) -> None:
        client = self._cluster.client
        await client.config_set("maxmemory", 1)
        await asyncio.sleep(lasts_s)
        await client.config_set("maxmemory", 0)

    async def _fill_disk(self, lasts_s: float) -> None:
        """With `always` Redis ends at each write that fails, and is started again as by `baton up`."""
        server = self._cluster.redis
        await asyncio.to_thread(server.fill_disk)
        until = time.monotonic() + lasts_s
        while time.monotonic() < until:
            await asyncio.sleep(0.1)
            if server.is_over:
                with suppress(RedisError):
                    await asyncio.to_thread(server.start)
        server.free_disk()
        if server.is_over:
            await asyncio.to_thread(server.start)

    def keep_copy(self) -> None:
        """Copy Redis's file, to set it back to that later."""
        shutil.copyfile(_append_only(self._cluster.redis.directory), self._copy)
        self._copied_at = time.monotonic()

    def _set_back(self) -> None:
        shutil.copyfile(self._copy, _append_only(self._cluster.redis.directory))

    async def set_redis_back(self) -> None:
        """Kill Redis and start it from the copy."""
        self._excuse(self._copied_at)
        await asyncio.to_thread(self._cluster.redis.kill)
        self._set_back()
        await asyncio.to_thread(self._cluster.redis.start)

    async def heal(self) -> None:
        """End everything that may still be going on."""
        for part in self._cluster.parts:
            part.proxy.heal()
            if part.life is not None:
                part.life.signal(signal.SIGCONT)

    # Noting

    def _excuse(self, since: float) -> None:
        """Those that were not over at that time, or not to their client's knowledge."""
        for history in self._histories:
            end = next((heard.at for heard in history.heard if heard.what == "end"), None)
            if end is None or end > since - 1:
                history.is_excused = True

    async def _note(self, fault: Planned, part: Part | None) -> None:
        if part is not None and part.role == "api":
            touched = [history for history in self._open_ones() if history.reads_from == part.url]
        elif part is not None:
            return await self.note_worker(fault.kind, part.pid)
        else:
            touched = self._open_ones()
        self.done.append(Done(fault.kind, time.monotonic(), tuple(touched)))

    async def note_worker(self, kind: FaultKind, pid: int) -> None:
        """A fault of the worker with this process id, which happens now."""
        jobs = await self._jobs_of(pid)
        touched = [history for history in self._open_ones() if history.job_id in jobs]
        self.done.append(Done(kind, time.monotonic(), tuple(touched)))

    def _open_ones(self) -> list[History]:
        return [history for history in self._histories if not history.is_told_end]

    async def _jobs_of(self, pid: int) -> set[str]:
        try:
            leases = [worker for worker in await self._cluster.store.workers() if worker.pid == pid]
            found = [
                await cast(
                    Awaitable[Iterable[str]],
                    self._cluster.client.hkeys(keys.worker_jobs(lease.worker_instance)),
                )
                for lease in leases
            ]
            return {job_id for jobs in found for job_id in jobs}
        except (RedisError, StoreUnavailable):
            return set()


def cut_tail(server: RedisServer, num_bytes: int) -> int:
    """Cut the append-only file short, as a crash of the machine would; answers by how much.

    What Redis wrote anew at its start it has synced before it took that for its file: no crash tears it.
    """
    path = _append_only(server.directory)
    size = path.stat().st_size
    cut = max(0, min(num_bytes, size - server.rewritten_bytes))
    with path.open("r+b") as file:
        file.truncate(size - cut)
    return cut


def _append_only(directory: Path) -> Path:
    return directory / "appendonly.aof"
