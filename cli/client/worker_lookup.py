"""Lists and drains the live workers, through the API or directly through Redis."""

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
from shared.redis_url import read_redis_url
from shared.store.job_store import JobStore
from shared.store.redis_client import connect

T = TypeVar("T")
_TIMEOUT_S = 2


class WorkerSource(Protocol):
    """Where workers are listed and drained. Both methods raise CommandError."""

    def list(self) -> list[dict[str, Any]]:
        """The live workers, in the format of `/v1/workers`."""

    def drain(self, worker: str) -> dict[str, Any]:
        """Asks the worker with this id, name or name@host to drain, and returns it."""


class ApiWorkers:
    """Uses the API."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    def list(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._client.call("GET", "/v1/workers")["data"]
        return found

    def drain(self, worker: str) -> dict[str, Any]:
        drained: dict[str, Any] = self._client.call("POST", f"/v1/workers/{quote(worker, safe='@')}/drain")
        return drained


class RedisWorkers:
    """Uses Redis, so it works without the API. Raises CommandError if the URL is not one of a Redis."""

    def __init__(self, url: str) -> None:
        self._url = redis_url_option(url)

    def list(self) -> list[dict[str, Any]]:
        return [worker.to_json() for worker in self._call(lambda store: store.workers())]

    def drain(self, worker: str) -> dict[str, Any]:
        found = find_by_name(self._call(lambda store: store.workers()), worker)
        if len(found) > 1:
            message = f"{len(found)} workers are named '{worker}'; use an id from `baton workers`"
            raise CommandError(message, ExitCode.USAGE)
        if not found or not self._call(lambda store: store.drain(found[0].worker_instance)):
            message = f"no live worker is named '{worker}'; `baton workers` lists them"
            raise CommandError(message, ExitCode.NOT_FOUND)
        return {**found[0].to_json(), "status": "draining"}

    def _call(self, query: Callable[[JobStore], Awaitable[T]]) -> T:
        try:
            return asyncio.run(query_store(self._url, query))
        except StoreUnavailable as error:
            message = f"no answer from Redis (--redis-url): {error}"
            raise CommandError(message, ExitCode.UNREACHABLE) from error


def redis_url_option(url: str) -> str:
    """The value of --redis-url. Raises CommandError, which does not quote it: it may hold a password."""
    try:
        return read_redis_url(url)
    except ValueError as error:
        raise CommandError(f"--redis-url: {error}", ExitCode.USAGE) from error


async def read_workers(url: str) -> list[WorkerState]:
    """Raises StoreUnavailable."""
    return await query_store(url, lambda store: store.workers())


async def query_store(url: str, query: Callable[[JobStore], Awaitable[T]]) -> T:
    """Runs one query over a new connection. Raises StoreUnavailable."""
    redis = connect(url, timeout_s=_TIMEOUT_S)
    try:
        return await query(JobStore(redis))
    finally:
        await redis.aclose()
