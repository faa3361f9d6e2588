"""Listing: an owner's jobs, page by page, by their records alone."""

from __future__ import annotations

from typing import NamedTuple

from shared.domain.job import Job
from shared.errors import RequestError, invalid_value
from shared.store.job_reader import JobReader, UnreadableJob

#: Jobs that one call looks at, at most; `has_more` says that there are others.
_MAX_SCANNED = 1000
#: Where jobs of one status are wanted, this many are looked at in one call of the store.
_SCANNED_AT_ONCE = 100


class JobPage(NamedTuple):
    """Jobs, newest first."""

    jobs: list[Job | UnreadableJob]
    #: The last id that was looked at.
    last_id: str | None
    has_more: bool


async def page_of_jobs(
    reader: JobReader, owner: str, status: str | None, after: str | None, limit: int
) -> JobPage:
    """Jobs of this status, or of all, that are older than `after`. Raises RequestError (400) for an unknown `after`."""
    found: list[Job | UnreadableJob] = []
    num_scanned = 0
    while num_scanned < _MAX_SCANNED:
        # One more than is wanted tells whether there are others; where few may fit, many are looked at.
        at_once = limit if status is None else _SCANNED_AT_ONCE
        ids = await reader.list_ids(owner, before=after, limit=at_once + 1)
        if ids is None:
            raise invalid_after()
        looked_at = ids[:at_once]
        for job_id, job in zip(looked_at, await reader.get_many(looked_at), strict=True):
            if len(found) == limit:
                return JobPage(found, after, True)
            after = job_id
            if job is not None and (status is None or (isinstance(job, Job) and job.status == status)):
                found.append(job)
        has_more = len(ids) > at_once
        if len(found) == limit or not has_more:
            return JobPage(found, after, has_more)
        num_scanned += at_once
    return JobPage(found, after, True)


def invalid_after() -> RequestError:
    return invalid_value("after", "there is no such job")
