"""Records that something else wrote: they end their own job at most, and hide no other one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.domain.job import Job
from shared.errors import DecodeError, StoreUnavailable
from shared.store import keys
from shared.store.job_reader import UnreadableJob
from shared.store.job_store import JobStore, Reader
from tests.integration.shared.test_job_store import LEASE, MODEL, new_job, running

Damage = Callable[[Redis, str], Awaitable[Any]]


async def _string(redis: Redis, job_id: str) -> None:
    await redis.delete(keys.job(job_id))
    await redis.set(keys.job(job_id), "text")


async def _no_stream(redis: Redis, job_id: str) -> None:
    await redis.delete(keys.events(job_id))
    await redis.set(keys.events(job_id), "text")


def _field(name: str, value: str) -> Damage:
    async def damage(redis: Redis, job_id: str) -> None:
        await redis.hset(keys.job(job_id), name, value)

    return damage


def _entry(stream_id: str, **fields: str) -> Damage:
    async def damage(redis: Redis, job_id: str) -> None:
        stored: dict[Any, Any] = dict(fields)
        await redis.xadd(keys.events(job_id), stored, id=stream_id)

    return damage


DAMAGES: dict[str, Damage] = {
    "record is a string": _string,
    "stream is a string": _no_stream,
    **{
        f"{name}={value}": _field(name, value)
        for name in (
            "fence",
            "score",
            "retention_ms",
            "deaths",
            "attempts",
            "needs",
            "created_ms",
            "num_pauses",
        )
        for value in ("", "text", "1e400", "-1")
    },
    **{f"readers={value}": _field("readers", value) for value in ("text", ":", "r:1 r:1", "r1:x")},
    "fence behind the stream": _entry("7-0", end="0", e='{"type":"queued"}'),
    "the last possible id": _entry(
        "18446744073709551615-18446744073709551615", end="0", e='{"type":"queued"}'
    ),
    "an entry without an end": _entry("7-0", e="{}"),
    "an entry with another end": _entry("7-0", end="x,y", e="no JSON"),
    "bytes that are no text": _field("model", "\udcff"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("is_running", [False, True], ids=["queued", "running"])
async def test_a_damaged_job_hides_no_other_one(
    store: JobStore, redis_client: Redis, damage: str, is_running: bool
) -> None:
    if is_running:
        damaged = (await running(store, on_disconnect="pause")).id
    else:
        created = new_job(on_disconnect="pause")
        await store.create(created)
        await store.register(LEASE)
        damaged = created.id
    await store.register_replica("r1")
    await store.join(damaged, Reader("r1", 1))
    sound = new_job()
    await store.create(sound)
    await DAMAGES[damage](redis_client, damaged)
    # All that reapers and replicas do.
    survey = await store.survey(limit=9)
    assert [worker.worker_instance for worker in survey.workers] == ["w1.a"]
    await store.audit(survey.active)
    await store.promote([MODEL], after_s={"low": 0, "normal": 0})
    await store.beat_replica("r1", {damaged: 1})
    await store.leave("r1", {damaged: 1})
    await store.release_replica("r1")
    assert isinstance((await store.get_many([damaged, sound.id]))[1], Job)
    # The worker dies; another one takes the sound job, sooner or later.
    await store.release("w1.a", "worker_died", died=True)
    await store.register(LEASE)
    for attempt in range(3):
        claimed = await _claim(store, f"token {attempt}")
        if claimed == sound.id:
            break
    assert claimed == sound.id
    # Whatever became of the other one, it can be ended and forgotten.
    await store.cancel(damaged, "client")
    await store.forget(damaged)


async def _claim(store: JobStore, claim_token: str) -> str | None:
    try:
        claimed = await store.claim(LEASE, claim_token)
    except DecodeError:
        return None
    return claimed.id if isinstance(claimed, Job) else None


@pytest.mark.parametrize(
    "key", [keys.worker("w9.a"), keys.worker_jobs("w9.a"), keys.replica("r9"), keys.replica_jobs("r9")]
)
async def test_a_damaged_lease_hides_no_other_one(store: JobStore, redis_client: Redis, key: str) -> None:
    await store.register(LEASE)
    await redis_client.sadd(keys.WORKERS, "w9.a")
    await redis_client.sadd(keys.REPLICAS, "r9")
    await redis_client.set(key, "text")
    survey = await store.survey(limit=9)
    assert ([worker.worker_instance for worker in survey.workers], list(survey.unreadable)) == (
        ["w1.a"],
        ["w9.a"],
    )
    await store.release("w9.a", "worker_died", died=True)
    await store.release_replica("r9")
    survey = await store.survey(limit=9)
    assert (survey.unreadable, survey.replicas) == ({}, {})


async def test_a_refusal_is_not_taken_for_damage(store: JobStore, redis_client: Redis) -> None:
    job = new_job()
    await store.create(job)
    await store.register(LEASE)
    await redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable):
            await store.claim(LEASE, "token")
    finally:
        await redis_client.config_set("maxmemory", 0)
    assert await _claim(store, "token") == job.id


async def test_a_record_that_is_no_text_is_unreadable(store: JobStore, redis_client: Redis) -> None:
    job = new_job()
    await store.create(job)
    await redis_client.hset(keys.job(job.id), "priority", b"\xff\xfe")
    assert await store.get_many([job.id]) == [UnreadableJob(job.id)]
    with pytest.raises(DecodeError):
        await store.get(job.id)
    assert await store.cancel(job.id, "client") == "cancelled"


async def test_what_lists_workers_and_models_skips_the_damaged(store: JobStore, redis_client: Redis) -> None:
    await store.register(LEASE)
    for name in ("w7.a", "w8.a", b"w9.\xff"):
        await redis_client.sadd(keys.WORKERS, name)
    await redis_client.set(keys.worker("w7.a"), "text")
    await redis_client.set(keys.worker_jobs("w8.a"), "text")
    await redis_client.sadd(keys.MODELS, b"\xff")
    assert [worker.worker_instance for worker in await store.workers()] == ["w1.a"]
    assert await store.models() == {MODEL}


@pytest.mark.parametrize("key", [keys.throughput(MODEL), keys.OPEN, keys.ACCEPT_SEQ])
async def test_counters_of_another_type_end_no_job(store: JobStore, redis_client: Redis, key: str) -> None:
    job = await running(store)
    await redis_client.delete(key)
    await redis_client.lpush(key, "text")
    assert await store.cancel(job.id, "client") == "cancelled"
    if key != keys.OPEN:
        await store.create(new_job())
