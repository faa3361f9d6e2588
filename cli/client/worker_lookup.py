"""WorkerSource: the living workers, as the API or Redis itself tells of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from cli.client.api_client import ApiClient
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from shared.domain.lease import WorkerState, find_by_name
from shared.errors import StoreUnavailable
from shared.store.job_store import JobStore
from shared.store.redis_client import connect

T = TypeVar("T")
_TIMEOUT_S = 2


class WorkerSource(Protocol):
    """Both raise CommandError."""

    def list(self) -> list[dict[str, Any]]:
        """Each as `/v1/workers` shows it."""

    def drain(self, worker: str) -> dict[str, Any]:
        """Tell the one with this id, name or name@host to leave; answers it."""


class ApiWorkers:
    """Through the API."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    def list(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._client.call("GET", "/v1/workers")["data"]
        return found

    def drain(self, worker: str) -> dict[str, Any]:
        told: dict[str, Any] = self._client.call("POST", f"/v1/workers/{quote(worker, safe='@')}/drain")
        return told


class RedisWorkers:
    """Without any API: from Redis."""

    def __init__(self, url: str) -> None:
        self._url = url

    def list(self) -> list[dict[str, Any]]:
        return [worker.to_json() for worker in self._call(lambda store: store.workers())]

    def drain(self, worker: str) -> dict[str, Any]:
        found = find_by_name(self._call(lambda store: store.workers()), worker)
        if len(found) > 1:
            message = f"{len(found)} workers are called '{worker}': give the id of one of them"
            raise CommandError(message, ExitCode.USAGE)
        if not found or not self._call(lambda store: store.drain(found[0].worker_instance)):
            raise CommandError(f"no living worker is called '{worker}'", ExitCode.NOT_FOUND)
        return {**found[0].to_json(), "status": "draining"}

    def _call(self, ask: Callable[[JobStore], Awaitable[T]]) -> T:
        try:
            return asyncio.run(ask_store(self._url, ask))
        except StoreUnavailable as error:
            raise CommandError(f"Redis does not answer: {error}", ExitCode.UNREACHABLE) from error
        except ValueError as error:
            raise CommandError(f"--redis-url {self._url}: {error}", ExitCode.USAGE) from error


async def read_workers(url: str) -> list[WorkerState]:
    """Raises StoreUnavailable."""
    return await ask_store(url, lambda store: store.workers())


async def ask_store(url: str, ask: Callable[[JobStore], Awaitable[T]]) -> T:
    """One question, over a connection of its own. Raises StoreUnavailable."""
    redis = connect(url, timeout_s=_TIMEOUT_S)
    try:
        return await ask(JobStore(redis))
    finally:
        await redis.aclose()
