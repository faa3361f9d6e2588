"""Finding stored jobs for a caller."""

from __future__ import annotations

from typing import NamedTuple

from api.answers.exchange import Exchange
from api.delivery.stored_output import StoredOutput
from api.errors import StreamExpired
from shared.domain.job import Job, is_job_id
from shared.domain.result import Result
from shared.errors import DecodeError, RequestError, ScriptFailed, invalid_request


class FoundJob(NamedTuple):
    """A job as it stands in the store."""

    job: Job
    #: Its stored result. None: it is not over, or has none.
    result: Result | None


async def find_job(exchange: Exchange, job_id: str) -> FoundJob:
    """A job that the caller may see.

    Raises RequestError: 404 for an unknown or foreign one, 410 for one whose events are gone; DecodeError for one that
    a newer version wrote.
    """
    if not is_job_id(job_id):
        raise unknown_job(job_id)
    store = exchange.services.store
    try:
        found = await store.get_with_result(job_id)
    except (DecodeError, ScriptFailed) as error:
        await require_owner(exchange, job_id)
        raise DecodeError("job", job_id) from error
    if found is None:
        await require_owner(exchange, job_id)
        raise StreamExpired(job_id)
    if not may_see(exchange, found[0].owner):
        raise unknown_job(job_id)
    exchange.name_job(job_id)
    return FoundJob(*found)


async def require_owner(exchange: Exchange, job_id: str) -> None:
    """Raises RequestError (404) unless the job is one that the caller may see, by its owner alone."""
    owner = await _owner(exchange, job_id) if is_job_id(job_id) else None
    if owner is None or not may_see(exchange, owner):
        raise unknown_job(job_id)
    exchange.name_job(job_id)


async def _owner(exchange: Exchange, job_id: str) -> str | None:
    store, caller = exchange.services.store, exchange.principal.id
    try:
        return await store.owner(job_id)
    except ScriptFailed:
        # What has the job's key is no record. Its owner still lists it.
        return caller if await store.owns(caller, job_id) else None


def may_see(exchange: Exchange, owner: str) -> bool:
    return exchange.principal.is_admin or exchange.principal.id == owner


def unknown_job(job_id: str) -> RequestError:
    """404, the same for an unknown id and for a foreign one."""
    return invalid_request(f"No job with id '{job_id[:64]}' found.", code="job_not_found", status=404)


async def result_of(exchange: Exchange, found: FoundJob) -> Result:
    """What the job has released: its stored result, or else its stream."""
    if found.result is not None:
        return found.result
    return await StoredOutput(exchange.services.store, found.job.id, found.job.n).result()
