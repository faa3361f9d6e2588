"""What tests of workers share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from shared.celery_app import make_celery
from shared.job_store import JobStore
from shared.ringer import Ringer
from tests.integration.workers.harness import Jobs
from tests.integration.workers.lossy_store import LossyStore
from tests.redis_server import RedisServer


@pytest.fixture
def jobs(store: JobStore) -> Jobs:
    return Jobs(store)


@pytest.fixture
def lossy(store: JobStore) -> LossyStore:
    return LossyStore.of(store)


@pytest.fixture
async def ringer(redis_server: RedisServer, redis_client: Redis) -> AsyncIterator[Ringer]:
    celery = make_celery(redis_server.url)
    ringer = Ringer(celery, redis_client)
    yield ringer
    ringer.close()
    celery.close()
