"""The proxy does to a connection what it says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ConnectionError, TimeoutError

from shared.store.redis_client import connect
from tests.acceptance.faults.harness.proxy import Proxy
from tests.redis_server import RedisServer


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    carrying = Proxy(redis_server.url.removeprefix("unix://"))
    await carrying.start()
    yield carrying
    await carrying.stop()


async def test_a_swallowed_reply_is_of_an_operation_that_was_done(proxy: Proxy) -> None:
    redis = connect(proxy.url, timeout_s=2)
    await redis.set("n", 0)
    proxy.swallow(1)
    # The client repeats a call whose connection broke.
    assert await redis.incr("n") == 2
    assert proxy.num_swallowed == 1
    proxy.swallow(2)
    with pytest.raises(ConnectionError):
        await redis.incr("n")
    assert await redis.get("n") == "4"
    await redis.aclose()


async def test_a_cut_and_a_black_hole(proxy: Proxy) -> None:
    redis = connect(proxy.url, timeout_s=0.3)
    await redis.set("n", 1)
    proxy.cut()
    assert await redis.get("n") == "1"
    for directions in (("up", "down"), ("up",), ("down",)):
        proxy.hold(*directions)
        with pytest.raises(TimeoutError):
            await redis.incr("n")
        proxy.heal()
    # What was on its way arrived.
    await asyncio.sleep(0)
    assert int(await redis.get("n") or 0) > 1
    await redis.aclose()


async def test_latency(proxy: Proxy) -> None:
    redis = connect(proxy.url, timeout_s=2)
    await redis.ping()
    proxy.delay(0.05, 0.05)
    began = time.monotonic()
    await redis.ping()
    assert time.monotonic() - began > 0.09
    await redis.aclose()
