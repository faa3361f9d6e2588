"""A replica leaves a job. A job without readers pauses. Each call may be late or repeated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from shared.domain.events import (
    Cancelled,
    Queued,
    Requeued,
    Resumed,
    Started,
)
from shared.errors import StoreUnavailable
from shared.store import keys
from shared.store.append import Append, AppendAnswer
from shared.store.job_store import JobStore, Joined, Reader, ReplicaBeat
from tests.integration.shared.reading import R1, R2, due_ms, get, left_s, read, read_running, readers
from tests.integration.shared.test_job_store import (
    LEASE,
    MODEL,
    OTHER,
    RESOLVED,
    USED,
    claimed,
    new_job,
    stream,
    words,
)
from tests.integration.workers.lossy_store import LossyStore

pytestmark = pytest.mark.usefixtures("replicas")

NOT_RESUMABLE = replace(LEASE, can_continue=False)


@pytest.mark.parametrize("left", [{"job_none": 1}, {}])
async def test_nothing_leaves_a_job_that_is_not_there(store: JobStore, left: Mapping[str, int]) -> None:
    await store.leave("r1", left)
    assert await store._redis.zcard(keys.DEADLINES) == 0


async def test_a_queued_job_leaves_its_queue_without_an_event(store: JobStore) -> None:
    job_id = await read(store, reader_grace_s=60)
    for _ in range(2):
        await store.leave("r1", {job_id: 1})
    job = await get(store, job_id)
    assert (job.status, job.is_paused, job.num_pauses, job.fence) == ("queued", True, 1, 1)
    assert await store.queue_positions([(MODEL, job_id)]) == [None]
    assert await stream(store, job_id) == [Queued()]
    assert 55 < await left_s(store, "paused", job_id) <= 60
    assert (await store.survey(limit=9)).active == [job_id]


async def test_a_running_job_loses_its_slot_and_keeps_its_output(store: JobStore) -> None:
    job_id = await read_running(store)
    for _ in range(2):
        await store.leave("r1", {job_id: 1})
    job = await get(store, job_id)
    assert (job.status, job.is_paused, job.num_pauses, job.fence, job.deaths) == ("queued", True, 1, 3, 0)
    assert (job.claim_token, job.end, job.used) == (None, (1,), USED)
    assert await stream(store, job_id) == [Queued(), Started("w1"), words("a"), Requeued("paused")]
    assert await store.queue_positions([(MODEL, job_id)]) == [None]
    more = Append(job_id, "h1", (1,), (2,), output=words("b", start=1))
    assert await store.append([more]) == [AppendAnswer("not yours")]
    answer = await store.beat("w1.a", steps=1, wake_ups=0, running={}, stats={})
    assert answer is not None and answer.strays == {}


async def test_it_goes_on_where_it_was(store: JobStore) -> None:
    job_id = await read_running(store)
    await store.leave("r1", {job_id: 1})
    assert await store.claim(LEASE, "h2") == "empty"
    await store.join(job_id, Reader("r1", 2))
    again = await claimed(store, LEASE, "h2")
    assert (again.id, again.end, again.attempts, again.deaths) == (job_id, (1,), 2, 0)
    assert (await stream(store, job_id))[-1] == Resumed("w1", 2)


async def test_a_pause_forgives_no_death(store: JobStore) -> None:
    job_id = await read(store)
    for number in range(2):
        await store.register(LEASE)
        await claimed(store, LEASE, f"h{number}")
        if number == 0:
            await store.release("w1.a", "worker_died", died=True)
    await store.leave("r1", {job_id: 1})
    assert (await get(store, job_id)).deaths == 1


async def test_a_leave_of_an_older_join_changes_nothing(store: JobStore) -> None:
    job_id = await read_running(store)
    await store.join(job_id, Reader("r1", 2))
    await store.leave("r1", {job_id: 1})
    job = await get(store, job_id)
    assert (job.status, await readers(store, job_id)) == ("in_progress", {"r1:2"})


async def test_a_leave_that_comes_twice_does_not_undo_a_return(store: JobStore) -> None:
    lossy, job_id = LossyStore.of(store), await read(store)
    lossy.losses["leave"] = 1
    with pytest.raises(StoreUnavailable):
        await lossy.leave("r1", {job_id: 1})
    await store.join(job_id, Reader("r1", 2))
    await store.leave("r1", {job_id: 1})
    assert not (await get(store, job_id)).is_paused
    assert await store.queue_positions([(MODEL, job_id)]) == [0]


async def test_a_replica_whose_name_ends_alike_is_another_one(store: JobStore) -> None:
    await store.register_replica("xr1")
    job = new_job(on_disconnect="pause")
    await store.create(job, reader=Reader("xr1", 1))
    await store.leave("r1", {job.id: 1})
    assert not (await get(store, job.id)).is_paused


async def test_while_another_replica_reads_it_runs_on(store: JobStore) -> None:
    job_id = await read_running(store)
    await store.join(job_id, R2)
    await store.leave("r1", {job_id: 1})
    assert (await get(store, job_id)).status == "in_progress"
    await store.leave("r1", {job_id: 1})
    assert await readers(store, job_id) == {"r2:1"}
    await store.leave("r2", {job_id: 1})
    assert (await get(store, job_id)).is_paused


async def test_several_jobs_are_left_in_one_call(store: JobStore) -> None:
    jobs = [await read(store) for _ in range(3)]
    await store.join(jobs[1], R2)
    await store.leave("r1", dict.fromkeys(jobs, 1))
    assert [(await get(store, job_id)).is_paused for job_id in jobs] == [True, False, True]


async def test_a_leave_before_the_job_is_there_is_made_good_by_heartbeats(store: JobStore) -> None:
    """A replica waits for the outcome of its `create`; should it not, the registration is a stray."""
    job = new_job(on_disconnect="pause")
    await store.leave("r1", {job.id: 1})
    await store.create(job, reader=R1)
    assert await store.beat_replica("r1", {}) == ReplicaBeat({job.id: 1}, [])
    await store.leave("r1", {job.id: 1})
    assert (await get(store, job.id)).is_paused


async def test_a_job_that_continues_never_pauses(store: JobStore) -> None:
    job_id = await read_running(store, on_disconnect="continue")
    for _ in range(2):
        await store.leave("r1", {job_id: 1})
    job = await get(store, job_id)
    assert (job.status, job.num_pauses, await readers(store, job_id)) == ("in_progress", 0, set())
    assert await due_ms(store, "paused", job_id) is None


@pytest.mark.parametrize("word", ["cancel", "hibernate"])
async def test_words_of_other_versions_pause(store: JobStore, word: str) -> None:
    """`cancel` is what older versions wrote for jobs with a reader."""
    job_id = await read(store)
    await store._redis.hset(keys.job(job_id), "on_disconnect", word)
    await store.leave("r1", {job_id: 1})
    assert (await get(store, job_id)).is_paused


@pytest.mark.parametrize("is_running", [True, False])
async def test_a_job_that_aborts_is_cancelled_at_once(store: JobStore, is_running: bool) -> None:
    job_id = await (read_running if is_running else read)(store, on_disconnect="abort")
    for _ in range(2):
        await store.leave("r1", {job_id: 1})
    job = await get(store, job_id)
    assert (job.status, job.reason, job.used) == (
        "cancelled", "reader_gone", USED if is_running else job.used
    )  # fmt: skip
    assert (await stream(store, job_id))[-1] == Cancelled("reader_gone")
    assert await store._redis.zscore(keys.ACTIVE, job_id) is None


async def test_the_end_of_a_job_leaves_nothing_to_leave(store: JobStore) -> None:
    job_id = await read(store, on_disconnect="abort")
    await store.cancel(job_id, "client")
    await store.leave("r1", {job_id: 1})
    assert (await stream(store, job_id)) == [Queued(), Cancelled("client")]
    assert await store._redis.hlen(keys.replica_jobs("r1")) == 0


async def test_a_job_that_has_released_something_runs_on_and_its_deadline_too(store: JobStore) -> None:
    job_id = await read_running(store, NOT_RESUMABLE, reader_grace_s=60)
    for _ in range(2):
        await store.leave("r1", {job_id: 1})
    job = await get(store, job_id)
    assert (job.status, job.is_paused, job.num_pauses) == ("in_progress", False, 0)
    assert 55 < await left_s(store, "paused", job_id) <= 60
    more = Append(job_id, "h1", (1,), (2,), output=words("b", start=1))
    assert await store.append([more]) == [AppendAnswer("end", (2,))]


async def test_a_reader_that_comes_back_ends_the_deadline(store: JobStore) -> None:
    job_id = await read_running(store, NOT_RESUMABLE)
    await store.leave("r1", {job_id: 1})
    assert await store.join(job_id, R2) == Joined("joined")
    assert await due_ms(store, "paused", job_id) is None


async def test_the_deadline_cancels_it(store: JobStore) -> None:
    job_id = await read_running(store, NOT_RESUMABLE, reader_grace_s=0)
    await store.leave("r1", {job_id: 1})
    (seen,) = (await store.survey(limit=9)).due
    assert await store.cancel(job_id, "reader_gone", seen=seen) == "cancelled"


async def test_one_that_has_released_nothing_pauses(store: JobStore) -> None:
    job_id = await read(store)
    await store.register(NOT_RESUMABLE)
    await claimed(store, NOT_RESUMABLE, "h1")
    await store.leave("r1", {job_id: 1})
    assert (await get(store, job_id)).is_paused


async def test_it_is_not_preempted_either(store: JobStore) -> None:
    low = new_job(priority="low")
    await store.create(low)
    await store.register(NOT_RESUMABLE)
    await claimed(store, NOT_RESUMABLE, "h1")
    text = words(*["a"] * 40)
    await store.append([Append(low.id, "h1", (0,), (40,), output=text, resolved=RESOLVED)])
    high = new_job(priority="high")
    await store.create(high)
    await store._redis.hincrby(keys.job(high.id), "created_ms", -250)
    assert await store.claim(NOT_RESUMABLE, "h2", instead_of=(low.id, "h1")) == "empty"


async def test_each_claim_states_whether_the_job_can_be_continued(store: JobStore) -> None:
    job_id = await read_running(store, NOT_RESUMABLE)
    await store.requeue(job_id, "h1", "drain")
    await store.register(OTHER)
    await claimed(store, OTHER, "h2")
    await store.leave("r1", {job_id: 1})
    assert (await get(store, job_id)).is_paused
