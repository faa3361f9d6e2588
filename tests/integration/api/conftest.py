"""Two real replicas on one Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from shared.store.job_store import JobStore
from tests.integration.api.server import ApiServer
from tests.redis_server import RedisServer

StartApi = Callable[..., ApiServer]


@pytest.fixture
def start_api(redis_server: RedisServer, store: JobStore) -> Iterator[StartApi]:  # noqa: ARG001  # empties Redis
    """Starts a replica with changed settings, as often as it is called."""
    with ExitStack() as stack:

        def start(**changes: Any) -> ApiServer:
            return stack.enter_context(ApiServer(redis_server.url, **changes))

        yield start


@pytest.fixture(scope="module")
def _replicas(redis_server: RedisServer) -> Iterator[tuple[ApiServer, ApiServer]]:
    """Two replicas for a module's tests that change nothing in them.

    Not for longer: their reapers would judge the workers of other modules' tests.
    """
    with ApiServer(redis_server.url) as first, ApiServer(redis_server.url) as second:
        yield first, second


@pytest.fixture
async def api(_replicas: tuple[ApiServer, ApiServer], store: JobStore) -> ApiServer:
    """A replica. The store, which was emptied, knows it again."""
    await store.register_replica(_replicas[0].replica)
    return _replicas[0]


@pytest.fixture
async def other_api(_replicas: tuple[ApiServer, ApiServer], store: JobStore) -> ApiServer:
    """Another one."""
    await store.register_replica(_replicas[1].replica)
    return _replicas[1]


@pytest.fixture
async def http(api: ApiServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `api`."""
    async with httpx.AsyncClient(base_url=api.url, timeout=20) as client:
        yield client


@pytest.fixture
async def other_http(other_api: ApiServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `other_api`."""
    async with httpx.AsyncClient(base_url=other_api.url, timeout=20) as client:
        yield client
