"""Fixtures for all kinds of tests."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from redis.asyncio import Redis

from shared.store.job_store import JobStore
from shared.store.redis_client import connect
from tests.redis_server import RedisServer

# How long an example takes says nothing on a busy machine.
settings.register_profile("baton", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("baton")


def pytest_configure() -> None:
    """Restore Ctrl-C, which a shell makes its background processes ignore. The tests' processes would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # The tests' own clients talk to this machine only, which no proxy reaches.
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadgroup` means the groups of these tests."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from tests.xdist_groups import GroupScheduling  # here, since pytest-xdist may be missing

    return GroupScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def _certificates_are_read_once() -> Iterator[None]:
    """Read the machine's certificates once. Each httpx client would read them again, which takes 26 ms of CPU time."""
    with pytest.MonkeyPatch.context() as patch:
        read_once = functools.cache(httpx.create_ssl_context)
        patch.setattr("httpx._transports.default.create_ssl_context", read_once)
        yield


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis for all tests that do not stop it or damage its data."""
    server = RedisServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def broker() -> Iterator[RedisServer]:
    """Another Redis, for Celery alone. The test may stop it."""
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
