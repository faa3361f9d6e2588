"""The audit mends what no queue and no living worker has, and fails what no worker can serve."""

from __future__ import annotations

from dataclasses import replace

import pytest
from redis.asyncio import Redis

from shared.domain.events import (
    Failed,
    Output,
    Queued,
    Requeued,
    Started,
)
from shared.domain.request import READER_VERSION
from shared.domain.usage import Usage
from shared.store import keys
from shared.store.append import Append, AppendAnswer
from shared.store.job_store import JobStore, Served
from tests.integration.shared.test_job_store import (
    LEASE,
    MODEL,
    OTHER,
    RESOLVED,
    USED,
    claimed,
    new_job,
    running,
    stream,
    words,
)

#: What `serves` says while workers of both revisions are there, and when only the new one is left.
NEW_ALONE = {MODEL: Served(frozenset({"new"}), 1)}


@pytest.mark.parametrize("damage", ["no worker", "not named", "not queued"])
async def test_the_audit_repairs_jobs_that_no_queue_or_worker_has(
    store: JobStore, redis_client: Redis, damage: str
) -> None:
    if damage == "not queued":
        job_id = new_job().id
        await store.create(replace(new_job(), id=job_id))
        await redis_client.zrem(keys.queued(MODEL), job_id)
    else:
        job_id = (await running(store)).id
    if damage == "no worker":
        await redis_client.delete(keys.WORKERS)
    if damage == "not named":
        await redis_client.delete(keys.worker_jobs("w1.a"))
    await store.audit((await store.survey(limit=9)).active)
    await store.register(OTHER)
    assert (await claimed(store, OTHER, "h")).id == job_id


async def test_the_audit_leaves_alone_what_is_well(store: JobStore) -> None:
    job = await running(store)
    await store.create(new_job())
    assert await store.audit((await store.survey(limit=9)).active) == ([], [])
    assert await store.append([Append(job.id, "h1", (0,), (0,))]) == [AppendAnswer("end", (0,))]


async def begun(store: JobStore) -> str:
    """A job that was begun with the revision `rev`, and waits while a worker has `new` alone."""
    job = await running(store)
    end = Append(job.id, "h1", (0,), (1,), USED, words("a"), RESOLVED)
    assert await store.append([end]) == [AppendAnswer("end", (1,))]
    await store.register(replace(OTHER, model_revision="new"))
    await store.release("w1.a", "drain", died=False)
    return job.id


async def test_a_job_whose_revision_nobody_serves_fails_once(store: JobStore) -> None:
    job_id = await begun(store)
    assert await store.audit([job_id], lasting=NEW_ALONE) == ([], [job_id])
    assert await store.audit([job_id], lasting=NEW_ALONE) == ([], [])
    found = await store.get(job_id)
    assert found is not None and found.error is not None
    assert (found.status, found.error.code, found.end, found.used) == (
        "failed", "model_changed", (1,), USED
    )  # fmt: skip
    assert [type(event) for event in await stream(store, job_id)] == [
        Queued,
        Started,
        Output,
        Requeued,
        Failed,
    ]
    assert (await store.survey(limit=9)).active == [] and await store.num_queued(MODEL) == 0


@pytest.mark.parametrize(
    "lasting", [{}, {"other": NEW_ALONE[MODEL]}, {MODEL: Served(frozenset({"new", "rev"}), 1)}]
)
async def test_a_job_waits_for_its_revision_while_that_may_come_back(
    store: JobStore, lasting: dict[str, Served]
) -> None:
    job_id = await begun(store)
    assert await store.audit([job_id], lasting=lasting) == ([], [])
    assert (await store.get(job_id)).status == "queued"  # type: ignore[union-attr]


@pytest.mark.parametrize("who", ["another of its revision", "one that has claimed it"])
async def test_a_job_that_is_served_again_does_not_fail(store: JobStore, who: str) -> None:
    """What the reaper saw a moment ago does not count against what is there now."""
    job_id = await begun(store)
    await store.register(LEASE)
    if who == "one that has claimed it":
        await claimed(store, LEASE, "h2")
    assert await store.audit([job_id], lasting=NEW_ALONE) == ([], [])
    assert not (await store.get(job_id)).is_terminal  # type: ignore[union-attr]


async def test_a_job_without_output_can_run_on_any_revision(store: JobStore) -> None:
    job = new_job()
    await store.create(job)
    await store.register(replace(OTHER, model_revision="new"))
    assert await store.audit([job.id], lasting=NEW_ALONE) == ([], [])
    assert (await claimed(store, replace(OTHER, model_revision="new"), "h")).id == job.id


async def too_new(store: JobStore) -> str:
    """A job that needs a later version, and waits while a worker of this one is there."""
    job = new_job()
    await store.create(job)
    await store._redis.hset(keys.job(job.id), "needs", READER_VERSION + 1)
    await store.register(LEASE)
    return job.id


READS_1 = {MODEL: Served(frozenset({"rev"}), READER_VERSION)}


async def test_a_job_that_no_worker_can_read_fails_once(store: JobStore) -> None:
    job_id = await too_new(store)
    assert await store.audit([job_id], lasting=READS_1) == ([], [job_id])
    assert await store.audit([job_id], lasting=READS_1) == ([], [])
    found = await store.get(job_id)
    assert found is not None and found.error is not None
    assert (found.status, found.error.code) == ("failed", "worker_too_old")
    assert await stream(store, job_id) == [Queued(), Failed(found.error)]


@pytest.mark.parametrize(
    "lasting", [{}, {"other": READS_1[MODEL]}, {MODEL: Served(frozenset({"rev"}), READER_VERSION + 1)}]
)
async def test_a_job_waits_for_a_worker_that_can_read_it(store: JobStore, lasting: dict[str, Served]) -> None:
    job_id = await too_new(store)
    assert await store.audit([job_id], lasting=lasting) == ([], [])
    assert await store.queue_positions([(MODEL, job_id)]) == [0]


async def test_a_worker_that_has_just_come_can_read_it(store: JobStore) -> None:
    job_id = await too_new(store)
    await store.register(OTHER)
    await store._redis.hset(keys.worker(OTHER.worker_instance), "reads", READER_VERSION + 1)
    assert await store.audit([job_id], lasting=READS_1) == ([], [])


async def test_what_a_job_has_used_is_carried_to_its_end(store: JobStore) -> None:
    """Scripts end jobs without a worker that counts."""
    ends: list[Usage] = []
    for end in ("requeue", "cancel", "audit"):
        job = await running(store)
        await store.append([Append(job.id, "h1", (0,), (1,), USED, words("a"), RESOLVED)])
        if end == "cancel":
            await store.cancel(job.id, "client")
        else:
            await store.requeue(job.id, "h1", "drain")
        if end == "audit":
            await store.release("w1.a", "drain", died=False)
            await store.audit([job.id], lasting=NEW_ALONE)
        entry, found = (await store.entries(job.id))[-1], await store.get(job.id)
        assert found is not None and found.used == entry.used
        ends.append(entry.used)
        await store.cancel(job.id, "client")
    assert ends == [USED] * 3
