"""Record check: what the readers of a silent job may still wait for, by the job's record."""

from __future__ import annotations

from collections.abc import Sequence

from api.errors import EventUnreadable, StreamCorrupt, StreamExpired
from shared.domain.events import Entry
from shared.domain.job import LIVE_STATUSES, TERMINAL_STATUSES, Job
from shared.errors import RequestError
from shared.store.job_reader import JobReader, UnreadableJob


async def check_records(reader: JobReader, job_ids: Sequence[str]) -> dict[str, Entry | RequestError]:
    """For each job that waits for no worker and runs on none: its end, or why there is none.

    Raises StoreUnavailable.
    """
    if not job_ids:
        return {}
    jobs = zip(job_ids, await reader.get_many(job_ids), strict=True)
    still = {
        job_id: job for job_id, job in jobs if not (isinstance(job, Job) and job.status in LIVE_STATUSES)
    }
    ends: dict[str, Entry | RequestError] = {}
    # Read after the records: an end that was written meanwhile counts.
    for (job_id, job), last in zip(still.items(), await reader.last_entries([*still]), strict=True):
        ends[job_id] = (
            last if isinstance(last, Entry) and last.is_terminal else _why_there_is_none(job_id, job)
        )
    return ends


def _why_there_is_none(job_id: str, job: Job | UnreadableJob | None) -> RequestError:
    if job is None:
        return StreamExpired(job_id)
    if isinstance(job, UnreadableJob) or job.status not in TERMINAL_STATUSES:
        return EventUnreadable(job_id)
    return StreamCorrupt(job_id)
