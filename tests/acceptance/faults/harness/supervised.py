"""Supervised: a real `baton up` beside a cluster, on the same Redis. Its worker is killed again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from tests.acceptance.faults.harness.cluster import Cluster
from tests.acceptance.faults.harness.faults import Faults
from tests.acceptance.faults.harness.proxy import Proxy
from tests.acceptance.system import System

#: Seconds between two deaths of its worker: longer than a life after which `baton up` waits no longer.
_GAP_S = 60.0
_PARTS = {"api.main": "up: api", "workers.main": "up: worker", "cli.flower_entry": "up: flower"}


class Supervised:
    """One replica, one worker and Flower, under `baton up`; `settings` may say otherwise."""

    def __init__(self, system: System, proxy: Proxy) -> None:
        self._system = system
        self._proxy = proxy
        self._is_over = False
        self.num_deaths = 0

    @classmethod
    async def begin(cls, cluster: Cluster, settings: Mapping[str, str]) -> Supervised:
        """Start it and wait until it serves."""
        proxy = Proxy(cluster.redis.url.removeprefix("unix://"))
        await proxy.start()
        own = {"REDIS_URL": proxy.url, "API_REPLICAS": "1", "MODEL_NAME": cluster.model}
        system = System(Path(cluster.model_path), **{**own, **settings})
        await asyncio.to_thread(system.start)
        return cls(system, proxy)

    @property
    def urls(self) -> list[str]:
        return self._system.urls[: int(self._system.settings["API_REPLICAS"])]

    def living(self) -> Iterator[tuple[str, int]]:
        """Names and process ids of what runs now."""
        if self._is_over:
            return
        yield "up", self._system.pid
        for child in psutil.Process(self._system.pid).children():
            try:
                name = next((_PARTS[word] for word in child.cmdline() if word in _PARTS), None)
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            if name is not None:
                yield name, child.pid

    async def keep_killing(self, faults: Faults) -> None:
        """kill -9 of the worker, until cancelled."""
        while True:
            await asyncio.sleep(_GAP_S)
            for name, pid in self.living():
                if name == "up: worker":
                    await faults.note_worker("worker kill", pid)
                    psutil.Process(pid).kill()
                    self.num_deaths += 1

    async def end(self) -> None:
        """Ctrl-C; once."""
        if not self._is_over:
            self._is_over = True
            await asyncio.to_thread(self._system.remove)
            await self._proxy.stop()
