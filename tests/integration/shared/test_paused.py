"""A paused job waits outside of its queue, for a reader or for its deadline."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from shared.domain.events import (
    Cancelled,
    Event,
    Expired,
    Output,
    Queued,
)
from shared.store import keys
from shared.store.append import Append
from shared.store.job_store import JobStore, Joined, Reader
from tests.integration.shared.reading import R2, due_ms, get, paused, read
from tests.integration.shared.test_job_store import (
    LEASE,
    MODEL,
    claimed,
    new_job,
    stream,
    words,
)

pytestmark = pytest.mark.usefixtures("replicas")


async def test_paused_jobs_at_the_head_of_a_queue_hide_none_behind_them(
    store: JobStore, redis_client: Redis
) -> None:
    """They are not in the queue; an older version's audit puts them there."""
    jobs = [await paused(store) for _ in range(33)]
    await redis_client.zadd(keys.queued(MODEL), dict.fromkeys(jobs, 0))
    last = new_job()
    await store.create(last)
    await store.register(LEASE)
    assert (await claimed(store, LEASE, "h1")).id == last.id
    assert await store.num_queued(MODEL) == 0
    assert await store.claim(LEASE, "h2") == "empty"


async def test_the_audit_leaves_a_paused_job_out_of_its_queue(store: JobStore, redis_client: Redis) -> None:
    job_id = await paused(store)
    for damage in (None, "in the queue", "no deadline"):
        if damage == "in the queue":
            await redis_client.zadd(keys.queued(MODEL), {job_id: 0})
        if damage == "no deadline":
            await redis_client.zrem(keys.DEADLINES, f"paused:{job_id}")
        assert await store.audit([job_id]) == ([], [])
        assert await store.num_queued(MODEL) == 0
        assert await due_ms(store, "paused", job_id) is not None


async def test_positions_and_counts_leave_it_out(store: JobStore) -> None:
    first, second = await read(store), await read(store)
    await store.leave("r1", {first: 1})
    assert await store.queue_positions([(MODEL, first), (MODEL, second)]) == [None, 0]
    assert (await store.num_queued(MODEL), await store.first_queued(MODEL)) == (1, second)
    assert await store.promote([MODEL], after_s={"normal": 0}) == (1, {MODEL: 1})


async def test_it_counts_as_open(store: JobStore) -> None:
    await paused(store)
    assert await store._redis.hget(keys.OPEN, "owner") == "1"


async def test_its_other_deadlines_run_on(store: JobStore) -> None:
    expired = await paused(store, expires_after_s=0)
    late = await paused(store, cancel_after_s=0)
    due = {deadline.job_id: deadline for deadline in (await store.survey(limit=9)).due}
    assert await store.expire(expired, seen=due[expired]) == "expired"
    assert await store.cancel(late, "deadline", seen=due[late]) == "cancelled"
    assert await stream(store, expired) == [Queued(), Expired()]
    for job_id in (expired, late):
        assert not (await get(store, job_id)).is_paused and await due_ms(store, "paused", job_id) is None


async def test_its_client_may_cancel_it(store: JobStore) -> None:
    job_id = await paused(store)
    for _ in range(2):
        assert await store.cancel(job_id, "client") == "cancelled"
    assert await stream(store, job_id) == [Queued(), Cancelled("client")]
    assert await store.join(job_id, R2) == Joined("over")


async def test_a_return_before_the_deadline_is_kept_saves_it(store: JobStore) -> None:
    job_id = await paused(store, reader_grace_s=0)
    (seen,) = (await store.survey(limit=9)).due
    await store.join(job_id, R2)
    assert await store.cancel(job_id, "reader_gone", seen=seen) == "queued"


async def test_output_is_exact_over_many_pauses(store: JobStore) -> None:
    job_id = await read(store)
    await store.register(LEASE)
    for number in range(4):
        await claimed(store, LEASE, f"h{number}")
        told = words("a", start=number)
        await store.append([Append(job_id, f"h{number}", (number,), (number + 1,), output=told)])
        await store.leave("r1", {job_id: number + 1})
        await store.join(job_id, Reader("r1", number + 2))
    events: list[Event] = await stream(store, job_id)
    assert [event.choices[0].start for event in events if isinstance(event, Output)] == [0, 1, 2, 3]
