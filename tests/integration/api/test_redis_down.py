"""Redis goes and comes back: 503 meanwhile, streams stay and go on, no restart."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from shared.store.job_store import JobStore
from shared.store.redis_client import connect
from tests.fake_worker import FakeWorker, hello
from tests.integration.api.requests import CHAT, chat, job
from tests.integration.api.server import ApiServer
from tests.redis_server import RedisServer
from tests.unit.api.streams import Text, blocks


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def own_api(own_redis: RedisServer) -> Iterator[ApiServer]:
    with ApiServer(own_redis.url, ping_s=0.05) as server:
        yield server


@pytest.fixture
async def own_store(own_redis: RedisServer) -> AsyncIterator[JobStore]:
    client = connect(own_redis.url, timeout_s=5)
    yield JobStore(client)
    await client.aclose()


@pytest.fixture
async def own_http(own_api: ApiServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=own_api.url, timeout=10) as client:
        yield client


async def check_unavailable(http: httpx.AsyncClient) -> None:
    """Every request is refused in time."""
    requests = [
        http.post(CHAT, json=chat()),
        http.post(CHAT, json=chat(stream=True)),
        http.post("/v1/jobs", json=job()),
        http.get(f"/v1/jobs/job_{'a' * 24}"),
        http.get("/v1/models"),
    ]
    for response in await asyncio.gather(*requests):
        assert (response.status_code, response.json()["error"]["code"]) == (503, "store_unavailable")
        assert response.headers["retry-after"]


async def test_a_killed_redis(
    own_redis: RedisServer, own_http: httpx.AsyncClient, own_store: JobStore
) -> None:
    async with FakeWorker(own_store, hello):
        assert (await own_http.post(CHAT, json=chat())).status_code == 200
        own_redis.kill()
        await check_unavailable(own_http)
        ready = await own_http.get("/health/ready")
        assert (ready.status_code, ready.json()["checks"]) == (
            503,
            {"redis": False, "broker": False, "worker": False},
        )
        assert "baton_redis_up 0" in (await own_http.get("/metrics")).text
        own_redis.start()
        assert (await own_http.post(CHAT, json=chat())).status_code == 200
        streamed = await own_http.post(CHAT, json=chat(stream=True))
        assert streamed.content.endswith(b"data: [DONE]\n\n")


async def test_a_redis_that_hangs(
    own_redis: RedisServer, own_http: httpx.AsyncClient, own_store: JobStore
) -> None:
    async with FakeWorker(own_store, hello):
        assert (await own_http.post(CHAT, json=chat())).status_code == 200
        os.kill(own_redis.pid, signal.SIGSTOP)
        try:
            await check_unavailable(own_http)
        finally:
            os.kill(own_redis.pid, signal.SIGCONT)
        assert (await own_http.post(CHAT, json=chat())).status_code == 200


async def test_streams_stay_open_and_go_on(
    own_redis: RedisServer, own_http: httpx.AsyncClient, own_store: JobStore
) -> None:
    async with FakeWorker(own_store) as worker:
        received = b""
        begun = asyncio.Event()

        async def read() -> None:
            nonlocal received
            async with own_http.stream("POST", CHAT, json=chat(stream=True)) as response:
                async for chunk in response.aiter_bytes():
                    received += chunk
                    begun.set()

        reading = asyncio.create_task(read())
        running = await worker.claimed()
        await running.say("a", "b")
        await begun.wait()
        own_redis.kill()
        size = len(received)
        await asyncio.sleep(0.3)
        assert received[size:].count(b": ping\n") >= 2 and not reading.done()
        own_redis.start()
        await running.say("c")
        await running.complete()
        await reading
    assert Text.of(blocks(received.replace(b"retry: 1000\n", b""))).texts == {0: "abc"}


async def test_it_starts_without_redis() -> None:
    redis = RedisServer()
    with ApiServer(redis.url) as server:
        async with httpx.AsyncClient(base_url=server.url) as http:
            assert (await http.get("/health/live")).status_code == 200
            assert (await http.get("/v1/models")).status_code == 503
            redis.start()
            assert (await http.get("/v1/models")).status_code == 200
    redis.remove()
