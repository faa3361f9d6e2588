"""What Redis refuses, and what breaks a connection, is known as that."""

from __future__ import annotations

import asyncio

import pytest
import uvloop
from redis.asyncio import Redis

from shared.domain.job import Job
from shared.errors import StoreUnavailable
from shared.store import keys
from shared.store.job_reader import UnreadableJob
from shared.store.job_store import JobStore
from shared.store.redis_client import connect, unavailable_as_error
from tests.acceptance.faults.harness.proxy import Proxy
from tests.integration.shared.test_job_store import new_job
from tests.redis_server import RedisServer


async def test_a_refusal_inside_a_script_is_one(redis_client: Redis, store: JobStore) -> None:
    await redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable, match="not allowed"), unavailable_as_error():
            await redis_client.set("key", "value")
        with pytest.raises(StoreUnavailable, match="OOM"):
            await store.create(new_job())
    finally:
        await redis_client.config_set("maxmemory", 0)


async def test_bytes_that_are_no_text_spoil_one_record_alone(redis_client: Redis, store: JobStore) -> None:
    job, other = new_job(), new_job()
    for one in (job, other):
        await store.create(one)
    await redis_client.hset(keys.job(job.id), "priority", b"\xff\xfe")
    found, second = await store.get_many([job.id, other.id])
    assert found == UnreadableJob(job.id)
    assert isinstance(second, Job)


def test_a_connection_that_was_reset_under_uvloop_is_made_again(redis_server: RedisServer) -> None:
    async def cut_and_call() -> None:
        proxy = Proxy(redis_server.url.removeprefix("unix://"))
        await proxy.start()
        redis = connect(proxy.url, timeout_s=2)
        try:
            for _ in range(20):
                await redis.ping()
                proxy.cut()
                # The reset arrives; then the connection of the pool is used.
                await asyncio.sleep(0.01)
                await redis.ping()
        finally:
            await redis.aclose()
            await proxy.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(cut_and_call())
