"""/v1/jobs: requests that outlive their connection."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api.deps import (
    READS,
    Owner,
    ReadersDep,
    ServicesDep,
    SettingsDep,
    find_job,
    name_job,
    read_json,
)
from api.event_stream import EventStream, watch_client
from api.job_object import job_object, job_summary
from api.job_view import JobView
from api.resuming import event_id, expired_if_ours, facts_of, read_cursor, resume
from api.schemas.job import JobRequest, read_job
from api.schemas.query import read_count, read_seconds, read_word
from api.services import Services
from api.settings import ApiSettings
from api.waiting import until_any, until_end_within
from shared.errors import RequestError, invalid_request
from shared.job import TERMINAL_STATUSES, Job, JobStatus, NewJob, is_job_id, new_job_id

router = APIRouter()

#: Longest `?wait=`.
_MAX_WAIT_S = 300
_STATUSES: frozenset[JobStatus] = TERMINAL_STATUSES | {"queued", "in_progress"}
#: Jobs that one call of the list looks at, at most; `has_more` says that there are others.
_MAX_SCANNED = 1000


@router.post("/v1/jobs")
async def create_job(
    request: Request, owner: Owner, services: ServicesDep, settings: SettingsDep
) -> Response:
    """Accept a job: 202 with the job's object."""
    asked, chat = read_job(await read_json(request))
    await services.models.require(chat.model)
    metadata = asked.metadata or chat.metadata or {}
    new = _new_job(asked, owner, settings, chat.model, chat.to_body(), chat.n, metadata)
    name_job(request, new.id)
    await services.dispatcher.accept(new)
    job = await find_job(request, services, owner, new.id)
    shown = await _show(services, job)
    return JSONResponse(shown, 202, {"location": shown["urls"]["get"]})


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
    data = [job_summary(job, await _queue_position(services, job)) for job in jobs]
    first_id = data[0]["id"] if data else None
    return {"object": "list", "data": data, "first_id": first_id, "last_id": last_id, "has_more": has_more}


@router.get("/v1/jobs/{job_id}")
async def get_job(
    request: Request, job_id: str, owner: Owner, services: ServicesDep, readers: ReadersDep
) -> dict[str, Any]:
    """The job; with `?wait=` when it is over or the time is up."""
    wait_s = read_seconds("wait", request.query_params.get("wait"), most=_MAX_WAIT_S)
    job = await find_job(request, services, owner, job_id)
    if wait_s and not job.is_terminal:
        with readers.admitted(owner):
            await _wait_for_end(request, services, job, wait_s)
        job = await find_job(request, services, owner, job_id)
    return await _show(services, job)


@router.post("/v1/jobs/{job_id}/cancel")
async def cancel_job(request: Request, job_id: str, owner: Owner, services: ServicesDep) -> dict[str, Any]:
    """End the job, if it is not over. Called again: the same answer."""
    await find_job(request, services, owner, job_id)
    await services.store.cancel(job_id, "client")
    return await _show(services, await find_job(request, services, owner, job_id))


@router.get("/v1/jobs/{job_id}/events", dependencies=[READS])
async def job_events(
    request: Request,
    job_id: str,
    owner: Owner,
    services: ServicesDep,
    settings: SettingsDep,
) -> Response:
    """The job's events from `Last-Event-ID` or `?after=` on: as SSE, or as JSON for polling."""
    text = event_id(request, "after", "starting_after")
    try:
        job = await find_job(request, services, owner, job_id)
    except RequestError as error:
        raise expired_if_ours(text, job_id, error) from error
    if _wants_json(request.headers.get("accept", "")):
        return JSONResponse(await _poll(request, services, job, text))
    cursor = read_cursor(text, job)
    follower, last = await resume(services.relay, job, cursor)
    if last.is_terminal and cursor.ending == "over":
        follower.close()
        return Response(status_code=204)
    watch_client(follower, request.receive)
    return EventStream(follower, JobView(facts_of(job)), settings.ping_s, first=[], headers={})


def _new_job(
    asked: JobRequest,
    owner: str,
    settings: ApiSettings,
    model: str,
    body: dict[str, Any],
    n: int,
    metadata: dict[str, str],
) -> NewJob:
    return NewJob(
        id=new_job_id(),
        model=model,
        owner=owner,
        body=body,
        n=n,
        endpoint=asked.endpoint,
        priority=asked.priority,
        on_disconnect=asked.on_disconnect,
        metadata=metadata,
        expires_after_s=asked.expires_after,
        cancel_after_s=asked.cancel_after,
        reader_grace_s=settings.reader_grace_s,
        retention_s=settings.retention_s,
    )


async def _queue_position(services: Services, job: Job) -> int | None:
    return await services.store.queue_position(job) if job.status == "queued" else None


async def _show(services: Services, job: Job) -> dict[str, Any]:
    entries = await services.store.entries(job.id) if any(job.end) or job.is_terminal else []
    return job_object(job, await _queue_position(services, job), entries)


async def _wait_for_end(request: Request, services: Services, job: Job, wait_s: float) -> None:
    follower, _ = await resume(services.relay, job, read_cursor(None, job))
    try:
        watch_client(follower, request.receive)
        await until_end_within(follower, wait_s)
    finally:
        follower.close()


async def _poll(request: Request, services: Services, job: Job, text: str | None) -> dict[str, Any]:
    """`{events, cursor, done}`; with `?wait=` at least one event, unless the time is up."""
    limit = read_count("limit", request.query_params.get("limit"), default=1000, most=10_000)
    wait_s = read_seconds("wait", request.query_params.get("wait"), most=_MAX_WAIT_S)
    cursor = read_cursor(text, job)
    follower, last = await resume(services.relay, job, cursor)
    try:
        is_over = last.is_terminal and cursor.ending == "over"
        watch_client(follower, request.receive)
        news = [] if is_over else (await until_any(follower, wait_s))[:limit]
    finally:
        follower.close()
    cursor = news[-1].cursor if news else cursor
    events = JobView(facts_of(job)).items(news)
    return {"events": events, "cursor": cursor.encode(), "done": is_over or cursor.ending == "over"}


def _wants_json(accept: str) -> bool:
    return "application/json" in accept and "text/event-stream" not in accept


async def _page(
    services: Services, owner: str, status: JobStatus | None, after: str | None, limit: int
) -> tuple[list[Job], str | None, bool]:
    """Jobs of this status, the last id that was looked at, and whether there are others."""
    found: list[Job] = []
    for _ in range(_MAX_SCANNED // 100):
        ids = await services.store.list_ids(owner, before=after, limit=101)
        if ids is None:
            raise _invalid_after()
        for job_id, job in zip(ids[:100], await services.store.get_many(ids[:100]), strict=True):
            if len(found) == limit:
                return found, after, True
            after = job_id
            if job is not None and (status is None or job.status == status):
                found.append(job)
        if len(ids) <= 100:
            return found, after, False
    return found, after, True


def _invalid_after() -> RequestError:
    return invalid_request("Invalid value for 'after': no such job.", param="after", code="invalid_value")
