"""What tests of workers share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import kombu.pools
import pytest
from celery import Celery
from redis.asyncio import Redis

from shared.cluster.celery_app import make_celery
from shared.cluster.wake_up_sender import WakeUpSender
from shared.store.job_store import JobStore
from tests.integration.workers.harness import Jobs
from tests.integration.workers.lossy_store import LossyStore
from tests.integration.workers.processes import Workers
from tests.redis_server import RedisServer


@pytest.fixture
def jobs(store: JobStore) -> Jobs:
    return Jobs(store)


@pytest.fixture
def lossy(store: JobStore) -> LossyStore:
    return LossyStore.of(store)


@pytest.fixture
async def sender(celery: Celery, redis_client: Redis) -> AsyncIterator[WakeUpSender]:
    sender = WakeUpSender(celery, redis_client)
    yield sender
    sender.close()


@pytest.fixture
def workers(redis_server: RedisServer, redis_client: Redis) -> Iterator[Workers]:
    """Worker processes on an empty Redis."""
    assert redis_client is not None
    workers = Workers(redis_server.url)
    yield workers
    workers.remove()


@pytest.fixture
def celery(redis_server: RedisServer) -> Iterator[Celery]:
    """What the API and people use: it sends wake-ups and remote control."""
    app = make_celery(redis_server.url)
    yield app
    app.close()
    kombu.pools.reset()  # their connections may have been broken
