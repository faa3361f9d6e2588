"""Records of a newer version beside this one's, of every kind: they are skipped one by one, and all else is served."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import cast

import pytest
from redis.asyncio import Redis

from shared.cluster.cluster_stats import read_cluster_stats
from shared.cluster.reaper import REPLICA_LEASE_S, Reaper
from shared.domain.events import Cancelled, Completed, Expired, Queued, Requeued, Started, Unknown
from shared.domain.job import Job, new_job_id
from shared.domain.request import READER_VERSION
from shared.domain.usage import Usage
from shared.domain.wake_up import WakeUp
from shared.errors import DecodeError
from shared.store import keys
from shared.store.append import Append
from shared.store.job_reader import UnreadableJob
from shared.store.job_store import JobStore, Reader
from tests.integration.shared.clock import Clock
from tests.integration.shared.test_job_store import (
    LEASE,
    MODEL,
    USED,
    claimed,
    new_job,
    running,
    stream,
    words,
)

#: Due deadlines of a kind that this version does not know: more than one survey looks at.
NUM_NEW_DEADLINES = 600


class NextVersion:
    """Writes what a newer version might."""

    def __init__(self, redis: Redis, store: JobStore) -> None:
        self._redis = redis
        self._store = store

    async def set(self, name: str, /, **fields: str | int) -> None:
        await self._redis.hset(name, items=[part for pair in fields.items() for part in pair])

    async def job(self, **fields: str | int) -> str:
        """A queued job with these fields instead of, or beside, those that this version writes."""
        job = new_job()
        await self._store.create(job)
        await self.set(keys.job(job.id), mood="good", **fields)
        await self.set(keys.job_request(job.id), score_sheet="[]")
        return job.id

    async def job_without(self, *fields: str) -> str:
        """One whose record has other fields instead of some of this version's."""
        job_id = await self.job(needs=READER_VERSION + 1)
        await self._redis.hdel(keys.job(job_id), *fields)
        return job_id

    async def worker(self, name: str, /, **fields: str | int) -> None:
        """A living worker whose lease has these fields."""
        await self._redis.sadd(keys.WORKERS, name)
        if fields:
            await self.set(keys.worker(name), **fields)

    async def event(self, job_id: str, stream_id: str, event: str, **fields: str) -> None:
        entry = {"end": "0", "used": "3,0,0,0,9", "e": event, **fields}
        await self._redis.xadd(keys.events(job_id), entry, id=stream_id)  # type: ignore[arg-type]

    async def everything(self) -> None:
        """A record of every kind that may be there while both versions run."""
        for words_of in ("priority", "on_disconnect"):
            await self.job(**{words_of: "spotless"})
        await self.job(status="dreaming")
        await self.job_without("attempts", "fence")
        await self.job_without("score", "deaths", "retention_ms")
        await self.event(await self.job(), "1-1", '{"type":"dreamt","of":[1]}')
        await self.event(
            await self.job(needs=READER_VERSION + 1),
            "1-1",
            '{"type":"output","choices":[[0,0,[1],["a"],null,null,[0,null,0,0,0],{"0":[["sing","la"]]}]]}',
        )
        await self.worker("next.0")
        await self.worker("next.1", model=MODEL, capabilities="[]")
        await self.worker("next.2", beat="now", name="n", model=MODEL, host="h", pid=1, device="cpu", exact=0)
        await self._redis.sadd(keys.REPLICAS, "next.r")
        await self.set(keys.replica_jobs("next.r"), job_none=1)
        for number in range(NUM_NEW_DEADLINES):
            await self._redis.zadd(keys.DEADLINES, {f"newkind:job_{number}": 0})
        await self._redis.set("baton:newkind:x", "y")


@pytest.fixture
def next_version(redis_client: Redis, store: JobStore) -> NextVersion:
    return NextVersion(redis_client, store)


async def rounds(store: JobStore, reaper: Reaper, clock: Clock, *times: float) -> None:
    """Rounds of duties while this version's worker lives, if there is one."""
    for now in times:
        clock.now = now
        if any(worker.worker_instance == "w1.a" for worker in await store.workers()):
            await store.beat("w1.a", steps=0, wake_ups=0, running={}, stats={})
        await reaper.tick()


async def test_duties_go_on_among_records_of_a_newer_version(
    store: JobStore, reaper: Reaper, clock: Clock, next_version: NextVersion
) -> None:
    await next_version.everything()
    expired = new_job(expires_after_s=0)
    await store.create(expired)
    await store.register(LEASE)
    await rounds(store, reaper, clock, 0, 2)
    assert await stream(store, expired.id) == [Queued(), Expired()]


async def test_a_worker_takes_what_it_can_read(store: JobStore, next_version: NextVersion) -> None:
    await next_version.everything()
    own = new_job()
    await store.create(own)
    await store.register(LEASE)
    taken = [await claimed(store, LEASE, f"h{number}") for number in range(4)]
    assert [taken[0].priority, taken[1].on_disconnect, taken[3].id] == ["spotless", "spotless", own.id]
    assert await store.claim(LEASE, "h4") == "empty"
    assert (await stream(store, own.id))[-1] == Started("w1")


async def test_lists_and_counts_show_what_can_be_read(
    store: JobStore, redis_client: Redis, next_version: NextVersion
) -> None:
    await next_version.everything()
    own = new_job()
    await store.create(own)
    await store.register(LEASE)
    ids = await store.list_ids("owner", before=None, limit=99)
    assert ids is not None
    found = await store.get_many(ids)
    assert [type(job) for job in found].count(UnreadableJob) == 2
    assert {job.status for job in found if isinstance(job, Job)} == {"queued", "dreaming"}
    assert [worker.worker_instance for worker in await store.workers()] == ["w1.a"]
    stats = await read_cluster_stats(redis_client, store, [MODEL])
    assert len(stats.workers) == 1 and stats.open_jobs == len(ids)
    assert None not in await store.queue_positions([(MODEL, own.id)])


async def test_a_lease_that_cannot_be_read_is_buried_after_its_time(
    store: JobStore, reaper: Reaper, clock: Clock, next_version: NextVersion
) -> None:
    """With its jobs, which wait again."""
    await store.register(LEASE)
    await next_version.everything()
    job = await running(store)
    await store._redis.hdel(keys.worker("w1.a"), "slots")
    await rounds(store, reaper, clock, 0, 3)
    assert len((await store.survey(limit=9)).unreadable) == 4
    await rounds(store, reaper, clock, 3.1)
    assert (await store.survey(limit=9)).unreadable == {}
    assert (await stream(store, job.id))[-1] == Requeued("worker_died")
    assert reaper.acts["unreadable"] == 4


async def test_a_lease_that_cannot_be_read_and_beats_stays(
    store: JobStore, reaper: Reaper, clock: Clock, next_version: NextVersion
) -> None:
    for now in range(0, 10, 2):
        await next_version.worker("next.1", model=MODEL, pulse=now)
        await rounds(store, reaper, clock, now)
    assert (await store.survey(limit=9)).unreadable.keys() == {"next.1"}


async def test_a_replica_that_beats_otherwise_is_buried_after_its_time(
    store: JobStore, reaper: Reaper, clock: Clock, next_version: NextVersion
) -> None:
    await next_version.everything()
    await rounds(store, reaper, clock, 0, REPLICA_LEASE_S)
    assert (await store.survey(limit=9)).replicas == {"next.r": ""}
    await rounds(store, reaper, clock, REPLICA_LEASE_S + 0.1)
    assert (await store.survey(limit=9)).replicas == {}


async def test_deadlines_of_an_unknown_kind_are_left_alone(
    store: JobStore, redis_client: Redis, reaper: Reaper, clock: Clock, next_version: NextVersion
) -> None:
    await next_version.everything()
    late = new_job(cancel_after_s=0)
    await store.create(late)
    assert [deadline.job_id for deadline in (await store.survey(limit=500)).due] == [late.id]
    await rounds(store, reaper, clock, 0)
    assert await stream(store, late.id) == [Queued(), Cancelled("deadline")]
    assert await redis_client.zcount(keys.DEADLINES, 0, 0) == NUM_NEW_DEADLINES


@pytest.mark.parametrize("what", ["status", "record"])
async def test_a_job_of_a_newer_version_is_left_alone(
    store: JobStore, redis_client: Redis, reaper: Reaper, clock: Clock, next_version: NextVersion, what: str
) -> None:
    if what == "status":
        job_id = await next_version.job(status="dreaming")
    else:
        job_id = await next_version.job_without("score", "fence", "retention_ms")
    before = await cast(Awaitable[dict[str, str]], redis_client.hgetall(keys.job(job_id)))
    await store.register(LEASE)
    await rounds(store, reaper, clock, 0, 2)
    assert (await store.survey(limit=9)).active == [job_id]
    assert await cast(Awaitable[dict[str, str]], redis_client.hgetall(keys.job(job_id))) == before


async def test_a_status_that_is_new_is_shown_and_not_changed(
    store: JobStore, next_version: NextVersion
) -> None:
    job_id = await next_version.job(status="dreaming")
    await store.register_replica("r1")
    assert (await store.join(job_id, Reader("r1", 1))).status == "over"
    assert await store.cancel(job_id, "client") == "dreaming"
    found = await store.get(job_id)
    assert found is not None and (found.status, found.is_terminal) == ("dreaming", False)


async def test_a_job_of_a_newer_version_is_written_to_as_any_other(
    store: JobStore, next_version: NextVersion
) -> None:
    """Its unknown fields stay as they are."""
    job_id = await next_version.job(on_disconnect="hibernate")
    await next_version.event(job_id, "1-1", '{"type":"dreamt"}')
    await store.register_replica("r1")
    await store.register(LEASE)
    await store.join(job_id, Reader("r1", 1))
    await claimed(store, LEASE, "h1")
    await store.append([Append(job_id, "h1", (0,), (1,), USED, words("a"))])
    await store.leave("r1", {job_id: 1})
    assert (await store.join(job_id, Reader("r1", 2))).wake_up == WakeUp(job_id, MODEL)
    await claimed(store, LEASE, "h2")
    await store.append([Append(job_id, "h2", (1,), (1,), USED, terminal=Completed())])
    found = await store.get(job_id)
    assert found is not None and (found.status, found.used) == ("completed", USED)
    assert await cast(Awaitable[str], store._redis.hget(keys.job(job_id), "mood")) == "good"


async def test_events_of_an_unknown_kind_move_a_reader_on(store: JobStore, next_version: NextVersion) -> None:
    job_id = await next_version.job()
    await next_version.event(job_id, "1-1", '{"type":"dreamt","of":[1]}', mood="good")
    entries = await store.entries(job_id)
    assert (entries[-1].event, entries[-1].used) == (Unknown("dreamt"), Usage(3))
    assert (await store.page(job_id, after="1-0", limit=9)).entries == entries[-1:]
    assert await store.last_entries([job_id]) == entries[-1:]
    found = await store.get(job_id)
    assert found is not None and found.used == Usage(3)


async def test_output_of_an_unknown_kind_ends_one_stream_and_shows_the_job(
    store: JobStore, next_version: NextVersion
) -> None:
    """To skip it would lose text."""
    job_id, own = await next_version.job(), new_job()
    await store.create(own)
    text = '{"type":"output","choices":[[0,0,[1],["a"],null,null,[0,null,0,0,0],{"0":[["sing","la"]]}]]}'
    await next_version.event(job_id, "1-1", text)
    with pytest.raises(DecodeError):
        await store.page(job_id, after=None, limit=9)
    broken, whole = await store.last_entries([job_id, own.id])
    assert isinstance(broken, DecodeError) and whole == (await store.entries(own.id))[-1]
    assert [type(job) for job in await store.get_many([job_id, own.id])] == [Job, Job]
    assert await store.get(job_id) is not None


@pytest.mark.parametrize("result", ['{"choices":[{"items":[{"kind":"song","text":"la"}]}]}', "rubbish"])
async def test_a_result_that_cannot_be_read_is_as_none(
    store: JobStore, redis_client: Redis, result: str
) -> None:
    job = await running(store)
    await store.append([Append(job.id, "h1", (0,), (0,), terminal=Completed())])
    await redis_client.set(keys.job_result(job.id), result)
    found = await store.get_with_result(job.id)
    assert found is not None and found[0].status == "completed" and found[1] is None


async def test_a_record_that_cannot_be_read_is_one_error(store: JobStore, next_version: NextVersion) -> None:
    job_id, own = await next_version.job_without("attempts"), new_job()
    await store.create(own)
    with pytest.raises(DecodeError):
        await store.get(job_id)
    missing = new_job_id()
    assert [type(job) for job in await store.get_many([job_id, own.id, missing])] == [
        UnreadableJob,
        Job,
        type(None),
    ]
    assert await store.owner(job_id) == "owner"
