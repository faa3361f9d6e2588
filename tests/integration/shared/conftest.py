"""Fixtures of the tests of the store and of the reaper."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from shared.cluster.celery_app import make_celery
from shared.cluster.reaper import Reaper
from shared.cluster.wake_up_sender import WakeUpSender
from shared.store.job_store import JobStore
from tests.integration.shared.clock import Clock
from tests.redis_server import RedisServer


@pytest.fixture
async def replicas(store: JobStore) -> None:
    """Two API replicas with leases: r1 and r2."""
    for replica in ("r1", "r2"):
        await store.register_replica(replica)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def sender(redis_server: RedisServer, redis_client: Redis) -> AsyncIterator[WakeUpSender]:
    celery = make_celery(redis_server.url)
    sender = WakeUpSender(celery, redis_client)
    yield sender
    sender.close()
    celery.close()


@pytest.fixture
def reaper(store: JobStore, sender: WakeUpSender, clock: Clock) -> Reaper:
    return Reaper(store, sender, lease_s=3, clock=clock)
