"""/v1/jobs: requests that outlive their connection."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api.dependencies import (
    Owner,
    ServicesDep,
    SettingsDep,
    StreamLimiterDep,
    find_job,
    read_json,
    read_nothing,
)
from api.dialects.jobs.job_object import job_object, job_summary
from api.dialects.jobs.schema import JobRequest, read_job
from api.dialects.openai_chat.schema import ChatRequest
from api.http.idempotency import PARAMETER, comparable_body, mark_replay, read_key
from api.http.openapi import request_body
from api.http.query import MAX_WAIT_S, read_count, read_seconds, read_word
from api.jobs.queue_position import QueuePosition
from api.lifespan import Services
from api.settings import ApiSettings
from api.streaming.resume import read_cursor, resume
from api.streaming.sse_response import watch_client
from api.streaming.wait import until_end_within
from shared.domain.job import TERMINAL_STATUSES, Job, JobStatus, NewJob, is_job_id, new_job_id
from shared.domain.request_key import RequestKey
from shared.errors import RequestError, invalid_request, invalid_value
from shared.runtime.failpoint import failpoint

router = APIRouter()
_EXAMPLE = {
    "endpoint": "/v1/chat/completions",
    "body": {"model": "SmolLM2-135M-Instruct", "messages": [{"role": "user", "content": "Hello!"}]},
    "priority": "low",
    "expires_after": 3600,
}

_STATUSES: frozenset[JobStatus] = TERMINAL_STATUSES | {"queued", "in_progress"}
#: Jobs that one call of the list looks at, at most; `has_more` says that there are others.
_MAX_SCANNED = 1000
#: Those of one status are looked for among so many at once.
_SCANNED_AT_ONCE = 100


@router.post(
    "/v1/jobs",
    status_code=202,
    openapi_extra={**request_body(JobRequest, _EXAMPLE), "parameters": [PARAMETER]},
)
async def create_job(
    request: Request, owner: Owner, services: ServicesDep, settings: SettingsDep
) -> Response:
    """Accept a job: 202 with the job's object."""
    asked, chat = read_job(await read_json(request))
    await services.models.require(chat.model)
    asked_for = {**comparable_body(asked), "body": comparable_body(chat)}
    key = read_key(request, owner, asked_for)
    return await _accept(request, services, _new_job(asked, chat, owner, settings, key))


@router.get("/v1/jobs")
async def list_jobs(request: Request, owner: Owner, services: ServicesDep) -> dict[str, Any]:
    """The owner's jobs, newest first, without their output."""
    query = request.query_params
    status = read_word("status", query.get("status"), _STATUSES)
    limit = read_count("limit", query.get("limit"), default=20, most=100)
    after = query.get("after") or None
    if after is not None and not is_job_id(after):
        raise _invalid_after()
    jobs, last_id, has_more = await _page(services, owner, status, after, limit)
    places = await services.wait_estimator.queue_positions([(job.model, job.id) for job in jobs])
    data = [job_summary(job, place) for job, place in zip(jobs, places, strict=True)]
    first_id = data[0]["id"] if data else None
    return {"object": "list", "data": data, "first_id": first_id, "last_id": last_id, "has_more": has_more}


@router.get("/v1/jobs/{job_id}")
async def get_job(
    request: Request, job_id: str, owner: Owner, services: ServicesDep, readers: StreamLimiterDep
) -> dict[str, Any]:
    """The job; with `?wait=` when it is over or the time is up."""
    wait_s = read_seconds("wait", request.query_params.get("wait"), most=MAX_WAIT_S)
    job = await find_job(request, services, owner, job_id)
    if wait_s and not job.is_terminal:
        with readers.admitted(owner):
            await _wait_for_end(request, services, job, wait_s)
        job = await find_job(request, services, owner, job_id)
    return await _show(services, job)


@router.post("/v1/jobs/{job_id}/cancel", openapi_extra={"parameters": [PARAMETER]})
async def cancel_job(request: Request, job_id: str, owner: Owner, services: ServicesDep) -> dict[str, Any]:
    """End the job, if it is not over. Called again: the same answer."""
    await read_nothing(request)
    key = read_key(request, owner, None)
    await find_job(request, services, owner, job_id)
    if key is not None:
        request.state.is_replay = await services.store.bind(key, job_id)
    failpoint("cancelling")
    await services.store.cancel(job_id, "client")
    failpoint("cancelled")
    return await _show(services, await find_job(request, services, owner, job_id))


@router.post("/v1/jobs/{job_id}/retry", status_code=202, openapi_extra={"parameters": [PARAMETER]})
async def retry_job(
    request: Request, job_id: str, owner: Owner, services: ServicesDep, settings: SettingsDep
) -> Response:
    """A new job with the request of one that is over: 202 with its object. It goes on without readers."""
    await read_nothing(request)
    key = read_key(request, owner, None)
    old = await find_job(request, services, owner, job_id)
    if not old.is_terminal:
        message = f"The job is {old.status}; only one that is over can be retried."
        raise invalid_request(message, code="job_not_over", status=409)
    failpoint("retrying")
    return await _accept(request, services, _repeated(old, settings, key))


@router.delete("/v1/jobs/{job_id}")
async def delete_job(request: Request, job_id: str, owner: Owner, services: ServicesDep) -> dict[str, Any]:
    """End the job, if it is not over, and forget it with all that it put out."""
    await find_job(request, services, owner, job_id)
    await services.store.cancel(job_id, "client")
    failpoint("deleting")
    await services.store.forget(job_id)
    failpoint("deleted")
    return {"id": job_id, "object": "job.deleted", "deleted": True}


def _new_job(
    asked: JobRequest, chat: ChatRequest, owner: str, settings: ApiSettings, key: RequestKey | None
) -> NewJob:
    return NewJob(
        id=new_job_id(),
        model=chat.model,
        owner=owner,
        body=chat.to_body(),
        n=chat.n,
        endpoint=asked.endpoint,
        priority=asked.priority,
        on_disconnect=asked.on_disconnect,
        metadata=asked.metadata or chat.metadata or {},
        expires_after_s=asked.expires_after,
        cancel_after_s=asked.cancel_after,
        reader_grace_s=settings.reader_grace_s,
        retention_s=settings.retention_s,
        key=key,
    )


def _repeated(old: Job, settings: ApiSettings, key: RequestKey | None) -> NewJob:
    return NewJob(
        id=new_job_id(),
        model=old.model,
        owner=old.owner,
        body=old.body,
        n=old.n,
        endpoint=old.endpoint,
        priority=old.priority,
        metadata=old.metadata,
        expires_after_s=old.expires_after_s,
        cancel_after_s=old.cancel_after_s,
        retention_s=settings.retention_s,
        retry_of=old.id,
        key=key,
    )


async def _accept(request: Request, services: Services, new: NewJob) -> Response:
    accepted = await services.dispatcher.accept(new)
    mark_replay(request, accepted)
    shown = await _show(services, await find_job(request, services, new.owner, accepted.job_id))
    return JSONResponse(shown, 202, {"location": shown["urls"]["get"]})


async def _place(services: Services, job: Job) -> QueuePosition | None:
    waiting = [(job.model, job.id)] if job.status == "queued" else []
    return next(iter(await services.wait_estimator.queue_positions(waiting)), None)


async def _show(services: Services, job: Job) -> dict[str, Any]:
    entries = await services.store.entries(job.id) if any(job.end) or job.is_terminal else []
    return job_object(job, await _place(services, job), entries)


async def _wait_for_end(request: Request, services: Services, job: Job, wait_s: float) -> None:
    subscription, _ = await resume(services.relay, job, read_cursor(None, job))
    try:
        watch_client(subscription, request.receive)
        await until_end_within(subscription, wait_s)
    finally:
        subscription.close()


async def _page(
    services: Services, owner: str, status: JobStatus | None, after: str | None, limit: int
) -> tuple[list[Job], str | None, bool]:
    """Jobs of this status, the last id that was looked at, and whether there are others."""
    found: list[Job] = []
    num_scanned = 0
    while num_scanned < _MAX_SCANNED:
        # One more than are wanted tells whether there are others; where few fit, many are looked at.
        at_once = limit if status is None else _SCANNED_AT_ONCE
        ids = await services.store.list_ids(owner, before=after, limit=at_once + 1)
        if ids is None:
            raise _invalid_after()
        looked_at = ids[:at_once]
        for job_id, job in zip(looked_at, await services.store.get_many(looked_at), strict=True):
            if len(found) == limit:
                return found, after, True
            after = job_id
            if job is not None and (status is None or job.status == status):
                found.append(job)
        has_more = len(ids) > at_once
        if len(found) == limit or not has_more:
            return found, after, has_more
        num_scanned += at_once
    return found, after, True


def _invalid_after() -> RequestError:
    return invalid_value("after", "no such job")
