"""The proxy does to a connection what its mode says."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, RedisError, ResponseError, TimeoutError

from shared.store.redis_client import connect
from tests.redis_proxy import Cut, Delay, Garble, Pass, RedisProxy, Refuse, Silence
from tests.redis_server import RedisServer


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[RedisProxy]:
    with RedisProxy(redis_server.url) as carrying:
        yield carrying


@pytest.fixture
async def redis(proxy: RedisProxy) -> AsyncIterator[Redis]:
    client = connect(proxy.url, timeout_s=0.5)
    await client.set("n", 0)
    yield client
    await client.aclose()


async def test_a_refused_command_is_not_done(proxy: RedisProxy, redis: Redis) -> None:
    proxy.mode = Refuse("BUSY Redis is busy running a script.", frozenset({"INCRBY"}))
    with pytest.raises(ResponseError, match="BUSY"):
        await redis.incr("n")
    assert await redis.get("n") == "0"
    async with redis.pipeline(transaction=False) as pipe:
        pipe.get("n")
        pipe.incr("n")
        pipe.get("n")
        first, refused, last = await pipe.execute(raise_on_error=False)
    assert (first, type(refused), last) == ("0", ResponseError, "0")
    proxy.mode = Pass()
    assert await redis.incr("n") == 1
    assert proxy.num_spoilt == 2


@pytest.mark.parametrize(("at", "num_done"), [("command", 0), ("reply", 2), ("middle", 2)])
async def test_a_cut_comes_before_the_command_or_after_it(
    proxy: RedisProxy, redis: Redis, at: str, num_done: int
) -> None:
    proxy.mode = Cut(at)  # type: ignore[arg-type]
    with pytest.raises(ConnectionError):
        await redis.incr("n")
    proxy.mode = Pass()
    # The client repeats a call once.
    assert await redis.get("n") == str(num_done)


async def test_a_silent_connection_stays_silent(proxy: RedisProxy, redis: Redis) -> None:
    proxy.mode = Silence()
    with pytest.raises(TimeoutError):
        await redis.get("n")
    proxy.mode = Delay(math.inf)
    with pytest.raises(TimeoutError):
        await redis.get("n")
    proxy.mode = Delay(0.001)
    assert await redis.get("n") == "0"


async def test_a_garbled_reply_is_another_one(proxy: RedisProxy, redis: Redis) -> None:
    await redis.set("long", "text " * 100)
    proxy.mode = Garble(seed=1)
    num_right = 0
    for _ in range(20):
        try:
            num_right += await redis.get("long") == "text " * 100
        except (RedisError, ValueError):
            continue
    assert num_right < 5


async def test_subscribers_hear_and_are_cut(proxy: RedisProxy, redis: Redis) -> None:
    pubsub = redis.pubsub()
    await pubsub.subscribe("news")
    assert await pubsub.get_message(timeout=1) is not None
    assert await redis.publish("news", "one") == 1
    message = await pubsub.get_message(timeout=1)
    assert message is not None and message["data"] == "one"
    proxy.cut_all()
    # redis-py subscribes again by itself.
    message = await pubsub.get_message(timeout=1)
    assert message is not None and message["type"] == "subscribe"
    await pubsub.aclose()  # type: ignore[no-untyped-call]
