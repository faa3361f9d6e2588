"""How many jobs an owner may have open."""

from __future__ import annotations

import pytest

from shared.domain.job import NewJob
from shared.errors import TooManyJobs
from shared.store.job_store import NO_LIMITS, JobStore
from tests.integration.shared.test_job_store import new_job


def job(owner: str = "a") -> NewJob:
    return new_job(model="m", owner=owner)


async def test_an_owner_has_a_limit_of_open_jobs(store: JobStore) -> None:
    jobs = [job() for _ in range(3)]
    for each in jobs:
        await store.create(each, limits=NO_LIMITS._replace(open_jobs=3))
    with pytest.raises(TooManyJobs):
        await store.create(job(), limits=NO_LIMITS._replace(open_jobs=3))
    assert (await store.create(jobs[0], limits=NO_LIMITS._replace(open_jobs=3))).job_id == jobs[0].id
    await store.create(job(owner="b"), limits=NO_LIMITS._replace(open_jobs=3))
    assert await store.num_queued("m") == 4


async def test_a_job_that_is_over_makes_room_once(store: JobStore) -> None:
    jobs = [job() for _ in range(2)]
    for each in jobs:
        await store.create(each, limits=NO_LIMITS._replace(open_jobs=2))
    for _ in range(2):
        await store.cancel(jobs[0].id, "client")
    await store.create(job(), limits=NO_LIMITS._replace(open_jobs=2))
    with pytest.raises(TooManyJobs):
        await store.create(job(), limits=NO_LIMITS._replace(open_jobs=2))
