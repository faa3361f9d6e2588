"""A broker that is another Redis than the store goes and comes back: workers reconnect, and accepted jobs run."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from shared.cluster.celery_app import make_celery
from shared.cluster.reaper import Reaper
from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.lease import Lease
from shared.domain.wake_up import WakeUp
from shared.errors import BrokerUnavailable
from shared.store.job_store import JobStore
from shared.store.redis_client import connect
from tests.integration.workers.harness import MODEL, Jobs, eventually
from tests.integration.workers.processes import Workers
from tests.redis_server import RedisServer
from tests.scripted_backend import scripted_text


@pytest.fixture
async def broker_sender(broker: RedisServer) -> AsyncIterator[WakeUpSender]:
    celery, client = make_celery(broker.url), connect(broker.url, timeout_s=2)
    sender = WakeUpSender(celery, client)
    yield sender
    sender.close()
    celery.close()
    await client.aclose()


@pytest.fixture
def broker_workers(redis_server: RedisServer, redis_client: Redis, broker: RedisServer) -> Iterator[Workers]:
    assert redis_client is not None
    workers = Workers(redis_server.url, broker.url)
    yield workers
    workers.remove()


async def test_jobs_that_were_accepted_meanwhile_run_once_it_is_back(
    broker_workers: Workers, store: JobStore, jobs: Jobs, broker: RedisServer, broker_sender: WakeUpSender
) -> None:
    worker = broker_workers.start("w1")
    await worker.ready(store)
    running = await jobs.create(1000)
    await broker_sender.send([WakeUp(running, MODEL)])
    await jobs.reached(running, 10)
    broker.kill()
    waiting = await jobs.create(20, seed=2)
    await broker_sender.send([WakeUp(waiting, MODEL)])
    assert broker_sender.has_failed
    # What runs goes on, its worker stays.
    await jobs.ended(running, 20)
    assert (await jobs.get(waiting)).status == "queued"
    broker.start()
    await jobs.ended(waiting, 20)
    assert await jobs.texts(waiting) == [scripted_text(2, 0, 20)]
    assert [state.pid for state in await store.workers()] == [worker.pid]


async def test_a_worker_survives_a_broker_that_hangs(
    broker_workers: Workers, store: JobStore, jobs: Jobs, broker: RedisServer
) -> None:
    worker = broker_workers.start("w1")
    await worker.ready(store)
    os.kill(broker.pid, signal.SIGSTOP)
    job_id = await jobs.create(20, seed=2)
    # Longer than Celery's thread waits for an answer.
    await asyncio.sleep(6)
    os.kill(broker.pid, signal.SIGCONT)
    await jobs.ended(job_id, 20)
    assert [state.pid for state in await store.workers()] == [worker.pid]


@pytest.mark.parametrize("fault", ["killed", "stopped"])
async def test_the_dead_are_buried_meanwhile(
    store: JobStore, jobs: Jobs, broker: RedisServer, broker_sender: WakeUpSender, fault: str
) -> None:
    await jobs.create(20)
    await store.register(Lease("w.1", "w", MODEL, "host", 1, "cpu", 4, "rev"))
    if fault == "killed":
        broker.kill()
    else:
        os.kill(broker.pid, signal.SIGSTOP)
    reaper = Reaper(store, broker_sender, lease_s=3)
    running = asyncio.create_task(reaper.run())

    async def is_buried() -> bool:
        return await store.workers() == []

    await eventually(is_buried)
    running.cancel()
    with pytest.raises(BrokerUnavailable):
        await broker_sender.ping()
    if fault == "stopped":
        os.kill(broker.pid, signal.SIGCONT)
