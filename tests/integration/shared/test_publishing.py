"""What the scripts write is published only to the replicas that read the job, each on its own channel."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis.asyncio import Redis

from shared.domain.events import Completed, encode_event
from shared.domain.job import Job
from shared.store import keys
from shared.store.append import Append
from shared.store.job_store import JobStore, Reader
from tests.integration.shared.test_audit import NEW_ALONE, begun
from tests.integration.shared.test_job_store import (
    LEASE,
    RESOLVED,
    USED,
    claimed,
    new_job,
    running,
    words,
)

R1, R2 = Reader("r1", 1), Reader("r2", 1)


class Channels:
    """Hears what is published to every replica."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._pubsub = redis.pubsub()

    async def start(self) -> None:
        await self._pubsub.psubscribe(keys.channel("*"))

    async def stop(self) -> None:
        await self._pubsub.aclose()  # type: ignore[no-untyped-call]

    async def heard(self) -> list[tuple[str, list[list[object]]]]:
        """Return the messages since the last call, with their replicas."""
        await self._redis.publish(keys.channel("end"), "[]")
        found: list[tuple[str, list[list[object]]]] = []
        while True:
            message = await self._pubsub.get_message(ignore_subscribe_messages=True, timeout=5)
            if message is None:
                continue
            replica = message["channel"].removeprefix(keys.channel(""))
            if replica == "end":
                return sorted(found)
            found.append((replica, json.loads(message["data"])))


@pytest.fixture
async def channels(redis_client: Redis, store: JobStore) -> AsyncIterator[Channels]:
    channels = Channels(redis_client)
    await channels.start()
    for replica in ("r1", "r2"):
        await store.register_replica(replica)
    yield channels
    await channels.stop()


async def test_a_reader_that_comes_with_the_job_hears_all_of_its_life(
    store: JobStore, channels: Channels
) -> None:
    job = new_job()
    await store.create(job, reader=R1)
    await store.register(LEASE)
    await claimed(store, LEASE, "h1")
    await store.append([Append(job.id, "h1", (0,), (1,), USED, words("a"), RESOLVED)])
    await store.requeue(job.id, "h1", "drain")
    await store.cancel(job.id, "client")
    told = [one for replica, messages in await channels.heard() for one in messages if replica == "r1"]
    assert [one[:4] for one in told] == [
        [job.id, "2-0", "0", ""],
        [job.id, "2-1", "1", "3,2,1,0"],
        [job.id, "3-0", "1", "3,2,1,0"],
        [job.id, "4-0", "1", "3,2,1,0"],
    ]
    entries = await store.entries(job.id)
    assert [one[4] for one in told] == [json.loads(encode_event(entry.event)) for entry in entries[1:]]


async def test_a_step_is_one_message_to_each_replica_that_reads_a_part_of_it(
    store: JobStore, channels: Channels
) -> None:
    jobs = []
    await store.register(LEASE)
    for number in range(4):
        await store.create(new_job())
        jobs.append(await claimed(store, LEASE, f"h{number}"))
    for job, readers in zip(jobs, ((R1,), (R1, R2), (R2,), ()), strict=True):
        for reader in readers:
            assert (await store.join(job.id, reader)).status == "joined"
    await channels.heard()
    await store.append(
        [Append(job.id, f"h{number}", (0,), (1,), USED, words("a")) for number, job in enumerate(jobs)]
    )
    told = [(replica, [one[0] for one in messages]) for replica, messages in await channels.heard()]
    assert told == [("r1", [jobs[0].id, jobs[1].id]), ("r2", [jobs[1].id, jobs[2].id])]


async def test_the_end_of_a_job_is_published_with_its_last_output(
    store: JobStore, channels: Channels
) -> None:
    job = await running(store)
    await store.join(job.id, R1)
    for _ in range(2):  # the second time nothing is written
        await store.append([Append(job.id, "h1", (0,), (1,), USED, words("a"), RESOLVED, Completed())])
    ((replica, messages),) = await channels.heard()
    assert (replica, [one[1] for one in messages]) == ("r1", ["2-1", "2-2"])


async def test_who_has_left_hears_no_more(store: JobStore, channels: Channels) -> None:
    job = await running(store)
    await store.join(job.id, R1)
    await store.join(job.id, R2)
    await store.leave("r1", {job.id: 1})
    await store.append([Append(job.id, "h1", (0,), (1,), output=words("a"))])
    assert [replica for replica, _ in await channels.heard()] == ["r2"]


async def test_a_job_without_readers_publishes_nothing(store: JobStore, channels: Channels) -> None:
    job = await running(store)
    await store.append([Append(job.id, "h1", (0,), (1,), output=words("a"))])
    await store.cancel(job.id, "client")
    assert await channels.heard() == []


async def requeue(store: JobStore, job: Job) -> None:
    await store.requeue(job.id, "h1", "drain")


async def release(store: JobStore, _: Job) -> None:
    await store.release("w1.a", "drain", died=False)


async def mend(store: JobStore, job: Job) -> None:
    await store._redis.delete(keys.worker_jobs("w1.a"))
    await store.audit([job.id])


@pytest.mark.parametrize("act", [requeue, release, mend])
async def test_that_a_job_waits_again_is_published(
    store: JobStore, channels: Channels, act: Callable[[JobStore, Job], Awaitable[None]]
) -> None:
    job = await running(store)
    await store.join(job.id, R1)
    await act(store, job)
    ((replica, messages),) = await channels.heard()
    assert (replica, [one[:2] for one in messages]) == ("r1", [[job.id, "3-0"]])


async def test_that_a_job_failed_is_published(store: JobStore, channels: Channels) -> None:
    job_id = await begun(store)
    await store.join(job_id, R1)
    await store.audit([job_id], lasting=NEW_ALONE)
    ((replica, ((told, _, end, used, event),)),) = await channels.heard()
    assert (replica, told, end, used) == ("r1", job_id, "1", "3,2,1,0")
    assert isinstance(event, dict) and event["error"]["code"] == "model_changed"
