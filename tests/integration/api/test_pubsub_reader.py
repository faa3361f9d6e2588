"""The subscription breaks and comes back by itself, and says that something may have been missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
from redis.asyncio import Redis

from api.streaming.lag_probe import LagProbe
from api.streaming.pubsub_reader import Heard, PubSubReader
from shared.store import keys
from shared.store.job_store import JobStore
from tests.fake_worker import FakeWorker
from tests.integration.api.requests import CHAT, chat
from tests.unit.api.streams import Text, blocks

REPLICA = "replica-1"


@pytest.fixture
async def listener(redis_client: Redis) -> AsyncIterator[PubSubReader]:
    yield PubSubReader(redis_client, REPLICA, LagProbe(redis_client, lambda _: None))


async def test_what_scripts_publish_is_heard(listener: PubSubReader, redis_client: Redis) -> None:
    messages = listener.messages()
    async with asyncio.timeout(5):
        assert await anext(messages) == "connected"
        await redis_client.publish(keys.channel(REPLICA), "not ours")
        await redis_client.publish(
            keys.channel(REPLICA), '[["job_1","2-1","1","7,1,0,0",{"type":"expired"}]]'
        )
        assert await anext(messages) == []
        assert await anext(messages) == [
            Heard("job_1", "2-1", "1", "7,1,0,0", msgspec.Raw(b'{"type":"expired"}'))
        ]
    await messages.aclose()  # type: ignore[attr-defined]  # it is a generator


async def test_a_broken_subscription_is_told_when_it_is_back(
    listener: PubSubReader, redis_client: Redis
) -> None:
    messages = listener.messages()
    async with asyncio.timeout(5):
        assert await anext(messages) == "connected"
        await redis_client.client_kill_filter(_type="pubsub")
        assert await anext(messages) == "connected"
    await messages.aclose()  # type: ignore[attr-defined]


async def test_a_stream_loses_nothing_when_subscriptions_break(
    http: httpx.AsyncClient, redis_client: Redis, store: JobStore
) -> None:
    async with FakeWorker(store) as worker:
        asking = asyncio.create_task(http.post(CHAT, json=chat(stream=True)))
        running = await worker.claimed()
        for text in "abcdef":
            await running.say(text)
            await redis_client.client_kill_filter(_type="pubsub")
        await running.complete()
        found = blocks((await asking).content.replace(b"retry: 1000\n", b""))
    assert Text.of(found).texts == {0: "abcdef"} and Text.of(found).num_done == 1
