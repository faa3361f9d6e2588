"""Two real replicas on one Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from shared.job_store import JobStore
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


@pytest.fixture
def api(start_api: StartApi) -> ApiServer:
    """A replica."""
    return start_api()


@pytest.fixture
def other_api(start_api: StartApi) -> ApiServer:
    """Another one."""
    return start_api()


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
