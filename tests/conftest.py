"""Fixtures that every kind of test uses."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.job_store import JobStore
from shared.redis_client import connect
from tests.redis_server import RedisServer


def pytest_configure() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C, and so would all that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadgroup` means the groups of these tests."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from tests.lanes import LaneScheduling  # here, since pytest-xdist may be missing

    return LaneScheduling(config, log)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis for all tests that do not harm it."""
    server = RedisServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture
async def redis_client(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A client of an empty Redis."""
    client = connect(redis_server.url, timeout_s=5)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def store(redis_client: Redis) -> JobStore:
    """A store on an empty Redis."""
    return JobStore(redis_client)
