"""Checks whether a process is ready. Each check returns within about a second."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

import httpx

from cli.supervisor.plan import ChildPlan
from shared.errors import DecodeError, StoreUnavailable
from shared.store.job_store import JobStore

#: Returns whether the process `pid` of this plan is ready.
Probe = Callable[[ChildPlan, int], Awaitable[bool]]

_PATHS = {"api": "/health/live", "flower": "/healthcheck"}


class Probes:
    """Checks Redis with a ping, servers with their health URL, and workers by their lease."""

    def __init__(self, store: JobStore, http: httpx.AsyncClient) -> None:
        self._store = store
        self._http = http

    async def is_ready(self, plan: ChildPlan, pid: int) -> bool:
        """A Probe for every role."""
        match plan.role:
            case "redis":
                return await self._is_store_ready()
            case "worker":
                return await self._has_lease(plan.id, pid)
            case "api" | "flower":
                return await self.answers(f"{plan.url}{_PATHS[plan.role]}")

    async def answers(self, url: str) -> bool:
        """Whether a GET returns 200."""
        try:
            return (await self._http.get(url)).status_code == 200
        except httpx.HTTPError:
            return False

    async def why_no_redis(self) -> str | None:
        """What Redis says instead of an answer. None: it answers."""
        try:
            await self._store.ping()
        except StoreUnavailable as error:
            return str(error)
        return None

    async def _is_store_ready(self) -> bool:
        try:
            await self._store.ping()
            await self._store.rewrite_file()
        except StoreUnavailable:
            return False
        return True

    async def _has_lease(self, name: str, pid: int) -> bool:
        try:
            workers = await self._store.workers()
        except (StoreUnavailable, DecodeError):
            return False
        return any((w.name, w.pid, w.host) == (name, pid, socket.gethostname()) for w in workers)
