"""A replica joins a job, with the job itself or later. Joining un-pauses it. Each call may be repeated."""

from __future__ import annotations

import pytest

from shared.domain.events import (
    Queued,
)
from shared.domain.request_key import RequestKey
from shared.domain.wake_up import WakeUp
from shared.errors import StoreUnavailable
from shared.store import keys
from shared.store.job_store import JobStore, Joined, Reader
from shared.store.queue_score import PRIORITY_SPAN
from tests.integration.shared.reading import R1, R2, due_ms, get, left_s, paused, read, readers
from tests.integration.shared.test_job_store import (
    LEASE,
    MODEL,
    claimed,
    new_job,
    stream,
)
from tests.integration.workers.lossy_store import LossyStore

pytestmark = pytest.mark.usefixtures("replicas")


async def test_a_replica_without_a_lease_joins_nothing(store: JobStore) -> None:
    job_id = await paused(store)
    assert await store.join(job_id, Reader("r3", 1)) == Joined("unknown")
    assert (await get(store, job_id)).is_paused and await readers(store, job_id) == set()


async def test_there_is_nothing_to_join_of_a_job_that_is_gone(store: JobStore) -> None:
    job_id = await read(store)
    assert await store.join("job_none", R2) == Joined("gone")
    await store._redis.delete(keys.events(job_id))
    assert await store.join(job_id, R2) == Joined("gone")
    assert await readers(store, job_id) == {"r1:1"}


async def test_a_job_that_is_over_has_no_readers(store: JobStore) -> None:
    job_id = await read(store)
    await store.cancel(job_id, "client")
    assert await readers(store, job_id) == set()
    assert await store.join(job_id, R2) == Joined("over")
    assert await readers(store, job_id) == set()


async def test_a_job_that_is_not_paused_is_joined(store: JobStore) -> None:
    job_id = await read(store)
    for _ in range(2):
        assert await store.join(job_id, R2) == Joined("joined")
    assert await readers(store, job_id) == {"r1:1", "r2:1"}


async def test_a_paused_job_waits_again_at_its_old_place(store: JobStore) -> None:
    job_id, later = await paused(store), new_job()
    await store.create(later)
    assert await store.join(job_id, R2) == Joined("resumed", WakeUp(job_id, MODEL))
    assert await store.queue_positions([(MODEL, job_id), (MODEL, later.id)]) == [0, 1]
    assert not (await get(store, job_id)).is_paused
    assert await due_ms(store, "paused", job_id) is None
    assert await stream(store, job_id) == [Queued()]


async def test_joining_again_resumes_once(store: JobStore) -> None:
    """The wake-up of an answer that was lost is sent by the reaper."""
    lossy, job_id = LossyStore.of(store), await paused(store)
    lossy.losses["join"] = 1
    with pytest.raises(StoreUnavailable):
        await lossy.join(job_id, R2)
    assert await lossy.join(job_id, R2) == Joined("joined")
    assert await store.queue_positions([(MODEL, job_id)]) == [0]
    assert await readers(store, job_id) == {"r2:1"}


async def test_a_second_join_of_a_replica_replaces_its_number(store: JobStore) -> None:
    job_id = await read(store)
    await store.join(job_id, R2)
    await store.join(job_id, Reader("r1", 5))
    assert await readers(store, job_id) == {"r1:5", "r2:1"}


async def test_after_three_pauses_each_costs_the_job_its_place(store: JobStore) -> None:
    """Within its class. Otherwise a client that keeps reconnecting would make others pay for recomputing its prompt."""
    job_id, later, low = await read(store), new_job(), new_job(priority="low")
    await store.create(later)
    await store.create(low)
    places = []
    for seq in range(2, 7):
        await store.leave("r1", {job_id: seq - 1})
        await store.join(job_id, Reader("r1", seq))
        places.append(await store.queue_positions([(MODEL, i) for i in (job_id, later.id, low.id)]))
    assert places == [[0, 1, 2]] * 3 + [[1, 0, 2]] * 2
    score = float(await store._redis.zscore(keys.queued(MODEL), job_id) or 0)
    assert score == float(await store._redis.hget(keys.job(job_id), "score") or 0)
    assert score // PRIORITY_SPAN == 1


async def test_a_reader_that_rides_along_is_there_from_the_start(store: JobStore) -> None:
    job = new_job(on_disconnect="pause")
    for _ in range(2):
        await store.create(job, reader=R1)
    assert await readers(store, job.id) == {"r1:1"}
    assert await due_ms(store, "paused", job.id) is None


async def test_a_repeated_create_brings_back_no_reader_that_left(store: JobStore) -> None:
    job = new_job(on_disconnect="pause")
    await store.create(job, reader=R1)
    await store.leave("r1", {job.id: 1})
    await store.create(job, reader=R1)
    assert (await get(store, job.id)).is_paused and await readers(store, job.id) == set()


async def test_a_replica_without_a_lease_reads_nothing(store: JobStore) -> None:
    """Its job has a deadline, as if it had been created to be read later."""
    job = new_job(on_disconnect="pause", reader_grace_s=60)
    await store.create(job, reader=Reader("r3", 1))
    assert await readers(store, job.id) == set()
    assert 55 < await left_s(store, "paused", job.id) <= 60


async def test_a_job_to_be_read_later_runs_until_its_deadline(store: JobStore) -> None:
    job = new_job(on_disconnect="pause", reader_grace_s=60)
    await store.create(job)
    assert 55 < await left_s(store, "paused", job.id) <= 60
    await store.register(LEASE)
    assert (await claimed(store, LEASE, "h1")).id == job.id
    assert await store.join(job.id, R1) == Joined("joined")
    assert await due_ms(store, "paused", job.id) is None


@pytest.mark.parametrize("on_disconnect", ["continue", "abort"])
async def test_others_have_no_such_deadline(store: JobStore, on_disconnect: str) -> None:
    job = new_job(on_disconnect=on_disconnect)
    await store.create(job)
    assert await due_ms(store, "paused", job.id) is None


async def test_a_request_that_is_repeated_by_its_key_joins_by_itself(store: JobStore) -> None:
    """The replay answers another job than the reader rides on."""
    key = RequestKey.of("key", "owner", "/v1/jobs", {})
    first = await store.create(new_job(key=key), reader=R1)
    again = await store.create(new_job(key=key), reader=R2)
    assert again.job_id == first.job_id
    assert await readers(store, first.job_id) == {"r1:1"}
