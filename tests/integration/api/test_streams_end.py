"""Every way of reading a job ends, whatever becomes of the job, of its stream or of Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from api.streaming import relay
from api.streaming.cursor import Cursor
from shared.store import keys
from shared.store.job_store import JobStore
from tests.fake_worker import FakeWorker, Running
from tests.integration.api.conftest import StartApi
from tests.integration.api.requests import CHAT, chat, submit
from tests.integration.api.test_connections import until

Damage = Callable[[Redis, str], Awaitable[Any]]


async def _empty(redis: Redis, _: str) -> None:
    await redis.flushall()


async def _delete_stream(redis: Redis, job_id: str) -> None:
    await redis.delete(keys.events(job_id))


async def _trim_stream(redis: Redis, job_id: str) -> None:
    await redis.xtrim(keys.events(job_id), maxlen=0, approximate=False)


async def _delete_record(redis: Redis, job_id: str) -> None:
    await redis.delete(keys.job(job_id))


async def _damage_record(redis: Redis, job_id: str) -> None:
    await redis.hset(keys.job(job_id), "attempts", "many")


async def _end_record_alone(redis: Redis, job_id: str) -> None:
    await redis.hset(keys.job(job_id), "status", "completed")


async def _write_another_number_of_choices(redis: Redis, job_id: str) -> None:
    await redis.xadd(
        keys.events(job_id), {"end": "1,1", "used": "", "e": '{"type":"started","worker":"w"}'}, "2-50"
    )


async def _replace_stream(redis: Redis, job_id: str) -> None:
    await redis.set(keys.events(job_id), "x")


async def _replace_record(redis: Redis, job_id: str) -> None:
    await redis.set(keys.job(job_id), "x")


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (_replace_stream, "event_unreadable"),
        (_replace_record, "stream_expired"),
        (_empty, "stream_expired"),
        (_delete_stream, "stream_expired"),
        (_trim_stream, "stream_expired"),
        (_delete_record, "stream_expired"),
        (_damage_record, "event_unreadable"),
        (_end_record_alone, "stream_corrupt"),
        (_write_another_number_of_choices, "event_unreadable"),
    ],
)
async def test_all_readers_of_a_job_that_was_damaged(
    start_api: StartApi,
    store: JobStore,
    redis_client: Redis,
    monkeypatch: pytest.MonkeyPatch,
    damage: Damage,
    code: str,
) -> None:
    monkeypatch.setattr(relay, "SILENCE_S", 0.2)
    monkeypatch.setattr(relay, "RECORD_SILENCE_S", 0.5)
    api = start_api(lease_s=60)
    async with FakeWorker(store) as worker, httpx.AsyncClient(base_url=api.url, timeout=20) as http:
        asking = asyncio.create_task(http.post(CHAT, json=chat()))
        running = await worker.claimed()
        await running.say("a")
        job_id = running.job.id
        name = job_id.replace("job_", "chatcmpl-")
        readings = [asking] + [
            asyncio.create_task(http.get(path))
            for path in (f"{CHAT}/{name}", f"{CHAT}/{name}/events", f"/v1/jobs/{job_id}/events")
        ]
        await until(lambda: api.services.relay.num_subscriptions == len(readings))
        other = asyncio.create_task(http.post(CHAT, json=chat()))
        other_running = await worker.claimed()
        await damage(redis_client, job_id)
        async with asyncio.timeout(15):
            answers = await asyncio.gather(*readings)
        # Readers of other jobs notice nothing.
        if damage is not _empty:
            await other_running.say("b")
            await other_running.complete()
            assert (await other).json()["choices"][0]["message"]["content"] == "b"
        else:
            assert "stream_expired" in (await other).text
    assert [code in answer.text for answer in answers] == [True] * len(readings)


async def end_early(running: Running) -> None:
    await running.say("b")
    await running.complete()


@pytest.mark.parametrize("stage", ["b", "f"])
@pytest.mark.parametrize("fence", [2, 99])
@pytest.mark.parametrize("num_tokens", [1, 200])
async def test_all_readers_ahead_of_a_job_that_runs(
    http: httpx.AsyncClient, store: JobStore, stage: str, fence: int, num_tokens: int
) -> None:
    """As after Redis was set back, if the worker is gone too."""
    async with FakeWorker(store) as worker:
        job_id = await submit(http)
        running = await worker.claimed()
        for _ in range(num_tokens):
            await running.say("a")
        ahead = Cursor.start(job_id, 1).encode().replace(".0.o.0n", f".{fence}.o.{num_tokens + 5}{stage}")
        name = job_id.replace("job_", "chatcmpl-")
        readings = [
            asyncio.create_task(http.get(path, params=params, headers=headers))
            for path, params, headers in (
                (f"{CHAT}/{name}/events", {}, {"last-event-id": ahead}),
                (f"/v1/jobs/{job_id}/events", {}, {"last-event-id": ahead}),
                (f"/v1/jobs/{job_id}/events", {"after": ahead, "wait": "15"}, {"accept": "application/json"}),
            )
        ]
        await asyncio.sleep(0.2)
        await end_early(running)
        async with asyncio.timeout(10):
            for answer in await asyncio.gather(*readings):
                assert "invalid_event_id" in answer.text
