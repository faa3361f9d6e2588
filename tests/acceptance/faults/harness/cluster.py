"""Cluster: Redis, API replicas and workers as real processes, each with a proxy of its own to Redis."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal

import psutil

from shared.domain.lease import WorkerState
from shared.errors import StoreUnavailable
from shared.store.job_store import JobStore
from shared.store.redis_client import connect
from tests.acceptance.faults.harness.fork_server import ForkServer, Life
from tests.acceptance.faults.harness.http import Unreachable, fetch
from tests.acceptance.faults.harness.proxy import Proxy
from tests.free_port import free_port
from tests.redis_server import RedisServer

Role = Literal["api", "worker"]
MODEL = "scripted"
#: Long enough for a machine that has much else to do.
START_S = 180.0
_API = "api.main"
_SCRIPTED = "tests.acceptance.faults.harness.scripted_worker"


async def eventually(condition: Callable[[], Awaitable[bool]], within_s: float, what: str) -> None:
    """Wait until `condition` holds. Raises TimeoutError with `what`."""
    deadline = time.monotonic() + within_s
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s:g} s: {what}")
        await asyncio.sleep(0.02)


class Part:
    """An API replica or a worker, in one life after the other."""

    def __init__(self, cluster: Cluster, role: Role, name: str, environ: Mapping[str, str]) -> None:
        self.role: Role = role
        self.name = name
        self.proxy = Proxy(cluster.redis.url.removeprefix("unix://"))
        self.port = free_port() if role == "api" else 0
        self.life: Life | None = None
        #: File descriptors that it had when it was new; of API replicas.
        self.first_fds = 0
        #: Whether its deaths are told to the store, as `baton up` does.
        self.is_supervised = False
        #: Whether it may be disturbed, but not ended.
        self.is_spared = False
        #: Where it is born, and as what, if not where all others are.
        self.origin: tuple[ForkServer, str] | None = None
        self._cluster = cluster
        self._environ = dict(environ)
        self._keeper: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.life is not None
        return self.life.pid

    @property
    def is_alive(self) -> bool:
        return self.life is not None and not self.life.is_over

    async def start(self, failpoint: str = "") -> Life:
        """Begin a life, without waiting until it is ready."""
        if not self.proxy.port:
            await self.proxy.start()
        environ = {
            **self._environ,
            "BATON_REDIS_URL": self.proxy.url,
            **({"BATON_PORT": str(self.port)} if self.role == "api" else {"BATON_WORKER_NAME": self.name}),
            **({"BATON_FAILPOINT": failpoint} if failpoint else {}),
        }
        self.life = await self._cluster.start_process(self, environ)
        return self.life

    async def ready(self) -> None:
        """Wait until it serves."""

        async def is_ready() -> bool:
            assert self.life is not None and not self.life.is_over, self._exit_reason()
            return await self.is_ready()

        await eventually(is_ready, START_S, f"{self.name} is ready")

    async def is_ready(self) -> bool:
        """Whether it serves now."""
        if not self.is_alive:
            return False
        if self.role == "worker":
            return await self.lease() is not None
        try:
            answer = await fetch("GET", self.url, "/health/live", within_s=5)
        except Unreachable:
            return False
        if answer.status == 200 and not self.first_fds:
            self.first_fds = psutil.Process(self.pid).num_fds()
        return answer.status == 200

    async def lease(self) -> WorkerState | None:
        """What the store knows of this life of a worker."""
        try:
            found = await self._cluster.store.workers()
        except StoreUnavailable:
            return None
        return next((worker for worker in found if worker.pid == self.pid), None)

    def keep(self) -> None:
        """Start it again whenever it dies, until `leave`."""
        self._keeper = asyncio.create_task(self._keep())

    async def leave(self) -> None:
        """Let it be dead from now on."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None

    async def _keep(self) -> None:
        while True:
            assert self.life is not None
            await self.life.status(within_s=1e9)
            self._cluster.num_deaths[self.role] += 1
            if self.is_supervised and self.role == "worker":
                await self._cluster.announce_death(self.life.pid)
            self.first_fds = 0
            await self.start()

    def _exit_reason(self) -> str:
        return f"{self.name} is over\n{self.life.last_words() if self.life else ''}"


class Cluster:
    """To be used in an `async with`. `settings` are BATON_* variables without the prefix, for all."""

    def __init__(
        self,
        *,
        appendfsync: str = "everysec",
        directory: Path | None = None,
        worker_module: str = _SCRIPTED,
        worker_arguments: tuple[str, ...] = ("--step-s", "0.005"),
        model: str = MODEL,
        **settings: str,
    ) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="baton-faults-"))
        self.redis = RedisServer(appendfsync, directory)
        self.model = model
        self.parts: list[Part] = []
        self.num_deaths = {"api": 0, "worker": 0}
        self._worker = (worker_module, worker_arguments)
        self._settings = {
            "MODEL": model,
            "MODEL_NAME": model,
            "LEASE_S": "1",
            "MAX_SLOTS": "8",
            "LOG_FORMAT": "text",
            "HOME": str(self.home),
            **settings,
        }
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Cluster:
        self._stack.callback(self.redis.remove)
        await asyncio.to_thread(self.redis.start)
        client = connect(self.redis.url, timeout_s=5)
        self._stack.push_async_callback(client.aclose)
        #: Past all proxies.
        self.client = client
        self.store = JobStore(client)
        self.fork_server = await self._stack.enter_async_context(ForkServer(_API, self._worker[0]))
        return self

    async def __aexit__(self, *_: object) -> None:
        for part in self.parts:
            await part.leave()
        await self._stack.aclose()
        for part in self.parts:
            if part.proxy.port:
                await part.proxy.stop()

    @property
    def model_path(self) -> str:
        """What workers load."""
        return self._settings["MODEL"]

    @property
    def apis(self) -> list[Part]:
        return [part for part in self.parts if part.role == "api"]

    @property
    def workers(self) -> list[Part]:
        return [part for part in self.parts if part.role == "worker"]

    @property
    def urls(self) -> list[str]:
        return [part.url for part in self.apis]

    def living(self) -> list[tuple[str, int]]:
        """Names and process ids of what runs now."""
        found = [(part.name, part.pid) for part in self.parts if part.is_alive]
        return found if self.redis.is_over else [*found, ("redis", self.redis.pid)]

    def add(self, role: Role, name: str, **settings: str) -> Part:
        """Another part, not yet started."""
        environ = {f"BATON_{key}": value for key, value in {**self._settings, **settings}.items()}
        part = Part(self, role, name, environ)
        self.parts.append(part)
        return part

    async def begin(self, role: Role, *names: str, **settings: str) -> list[Part]:
        """Add and start parts; wait until all of them are ready."""
        parts = [self.add(role, name, **settings) for name in names]
        for part in parts:
            await part.start()
        for part in parts:
            await part.ready()
        return parts

    async def remove(self, part: Part) -> None:
        """End a part for good."""
        await part.leave()
        if part.life is not None:
            part.life.kill()
            await part.life.status()
            await self.announce_death(part.pid)
        await part.proxy.stop()
        self.parts.remove(part)

    async def clear(self) -> None:
        """End all parts and forget all data: as new, but for Redis's process."""
        for part in self.parts:
            await part.leave()
            if part.life is not None:
                part.life.kill()
        for part in self.parts:
            if part.life is not None:
                await part.life.status()
            if part.proxy.port:
                await part.proxy.stop()
        self.parts.clear()
        self.num_deaths = {"api": 0, "worker": 0}
        await self.client.flushall()

    async def start_process(self, part: Part, environ: Mapping[str, str]) -> Life:
        module, arguments = (_API, ()) if part.role == "api" else self._worker
        fork_server = self.fork_server
        if part.origin is not None:
            fork_server, module = part.origin
        return await fork_server.start(module, environ, self.home / f"{part.name}.log", arguments)

    async def announce_death(self, pid: int) -> None:
        """What `baton up` does for a worker that it saw die."""
        try:
            for worker in await self.store.workers():
                if worker.pid == pid:
                    await self.store.release(worker.worker_instance, "worker_died", died=True)
        except StoreUnavailable:
            pass  # the reapers find it
