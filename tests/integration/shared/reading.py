"""Jobs that the replica r1 reads, for tests of joining, leaving and pausing."""

from __future__ import annotations

from shared.domain.job import Job
from shared.domain.lease import Lease
from shared.store import keys
from shared.store.append import Append
from shared.store.job_store import JobStore, Reader
from tests.integration.shared.test_job_store import (
    LEASE,
    RESOLVED,
    USED,
    claimed,
    new_job,
    words,
)

R1, R2 = Reader("r1", 1), Reader("r2", 1)


async def read(store: JobStore, **changes: object) -> str:
    """A new job that r1 reads."""
    job = new_job(**({"on_disconnect": "pause"} | changes))
    await store.create(job, reader=R1)
    return job.id


async def read_running(store: JobStore, lease: Lease = LEASE, **changes: object) -> str:
    """A running job that r1 reads and that has released a token."""
    job_id = await read(store, **changes)
    await store.register(lease)
    await claimed(store, lease, "h1")
    await store.append([Append(job_id, "h1", (0,), (1,), USED, words("a"), RESOLVED)])
    return job_id


async def paused(store: JobStore, **changes: object) -> str:
    """A job that r1 read and left."""
    job_id = await read(store, **changes)
    await store.leave("r1", {job_id: 1})
    assert (await get(store, job_id)).is_paused
    return job_id


async def get(store: JobStore, job_id: str) -> Job:
    found = await store.get(job_id)
    assert found is not None
    return found


async def readers(store: JobStore, job_id: str) -> set[str]:
    """Who reads the job by its own record, which agrees with the replicas' ones."""
    found = str(await store._redis.hget(keys.job(job_id), "readers") or "").split()
    numbers = {r: await store._redis.hget(keys.replica_jobs(r), job_id) for r in ("r1", "r2")}
    held = {f"{replica}:{seq!s}" for replica, seq in numbers.items() if seq is not None}
    assert set(found) == held
    return held


async def due_ms(store: JobStore, kind: str, job_id: str) -> float | None:
    return await store._redis.zscore(keys.DEADLINES, f"{kind}:{job_id}")


async def left_s(store: JobStore, kind: str, job_id: str) -> float:
    """Seconds until a deadline."""
    due, (seconds, micros) = await due_ms(store, kind, job_id), await store._redis.time()
    assert due is not None
    return due / 1000 - seconds - micros / 1e6
