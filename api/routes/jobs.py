"""/v1/jobs: requests that do not need an open connection."""

from __future__ import annotations

from typing import Any, cast

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api.answers.exchange import Exchange
from api.answers.finder import FoundJob, find_job, require_owner, result_of
from api.answers.listing import invalid_after, page_of_jobs
from api.delivery.client_watch import watch_client
from api.dependencies import ExchangeDep, StreamLimiterDep, known_query, read_json, read_nothing
from api.dialects.jobs.dialect import ParsedJob
from api.dialects.jobs.job_object import job_summary, unreadable_job
from api.dialects.jobs.schema import JobRequest
from api.http.idempotency import PARAMETER, mark_replay, read_key
from api.http.on_disconnect import from_word
from api.http.openapi import request_body
from api.http.query import MAX_WAIT_S, read_count, read_flag, read_seconds, read_word
from api.streaming.queue_position import QueuePosition
from api.streaming.resume import read_cursor, resume
from api.streaming.wait import until_end_within
from shared.domain.job import LIVE_STATUSES, TERMINAL_STATUSES, Job, NewJob, Priority, is_job_id, new_job_id
from shared.domain.request_key import RequestKey
from shared.errors import DecodeError, StoreUnavailable, invalid_request
from shared.runtime.failpoint import failpoint

router = APIRouter()
_EXAMPLE = {
    "endpoint": "/v1/chat/completions",
    "body": {"model": "SmolLM2-135M-Instruct", "messages": [{"role": "user", "content": "Hello!"}]},
    "priority": "low",
    "expires_after": 3600,
}
_STATUSES = TERMINAL_STATUSES | LIVE_STATUSES


@router.post(
    "/v1/jobs",
    status_code=202,
    dependencies=[known_query()],
    openapi_extra={**request_body(JobRequest, _EXAMPLE), "parameters": [PARAMETER]},
)
async def create_job(request: Request, exchange: ExchangeDep) -> Response:
    """Accept a job: 202 with the job's object."""
    fields = await read_json(request)
    asked = exchange.jobs.parse(fields)
    exchange.report_ignored(asked.parsed.ignored)
    _require_priority(exchange, asked.job.priority)
    await exchange.services.models.require(asked.parsed.model)
    return await _accept(
        exchange, _new_job(exchange, asked, read_key(request, exchange.principal.id, fields))
    )


@router.get("/v1/jobs", dependencies=[known_query("status", "limit", "after")])
async def list_jobs(request: Request, exchange: ExchangeDep) -> dict[str, Any]:
    """The caller's jobs, newest first, without their output."""
    query = request.query_params
    status = read_word("status", query.get("status"), _STATUSES)
    limit = read_count("limit", query.get("limit"), default=20, most=100)
    after = query.get("after") or None
    if after is not None and not is_job_id(after):
        raise invalid_after()
    page = await page_of_jobs(exchange.services.store, exchange.principal.id, status, after, limit)
    readable = [(job.model, job.id) for job in page.jobs if isinstance(job, Job)]
    positions = iter(await exchange.services.wait_estimator.queue_positions(readable))
    data = [
        job_summary(job, next(positions)) if isinstance(job, Job) else unreadable_job(job.id)
        for job in page.jobs
    ]
    first_id = data[0]["id"] if data else None
    return {
        "object": "list", "data": data, "first_id": first_id, "last_id": page.last_id, "has_more": page.has_more
    }  # fmt: skip


@router.get("/v1/jobs/{job_id}", dependencies=[known_query("wait", "output")])
async def get_job(
    request: Request, job_id: str, exchange: ExchangeDep, readers: StreamLimiterDep
) -> dict[str, Any]:
    """The job. With `?wait=`: once it is over or the time is up; with `?output=true`: with its output so far."""
    wait_s = read_seconds("wait", request.query_params.get("wait"), most=MAX_WAIT_S)
    shows_output = read_flag("output", request.query_params.get("output"))
    try:
        found = await find_job(exchange, job_id)
        if wait_s and not found.job.is_terminal:
            with readers.admitted(exchange.principal.id):
                await _wait_for_end(exchange, found.job, wait_s)
            found = await find_job(exchange, job_id)
    except DecodeError:
        return unreadable_job(job_id)
    return await _show(exchange, found, shows_output=shows_output)


@router.post(
    "/v1/jobs/{job_id}/cancel", dependencies=[known_query()], openapi_extra={"parameters": [PARAMETER]}
)
async def cancel_job(request: Request, job_id: str, exchange: ExchangeDep) -> dict[str, Any]:
    """End the job, if it is not over. Repeated, it has the same response."""
    await read_nothing(request)
    store, key = exchange.services.store, read_key(request, exchange.principal.id, {})
    await require_owner(exchange, job_id)
    if key is not None:
        request.state.is_replay = await store.bind(key, job_id)
    failpoint("cancelling")
    await store.cancel(job_id, "client")
    failpoint("cancelled")
    try:
        return await _show(exchange, await find_job(exchange, job_id))
    except DecodeError:
        return unreadable_job(job_id)


@router.post(
    "/v1/jobs/{job_id}/retry",
    status_code=202,
    dependencies=[known_query()],
    openapi_extra={"parameters": [PARAMETER]},
)
async def retry_job(request: Request, job_id: str, exchange: ExchangeDep) -> Response:
    """A new job with the request of one that is over: 202 with its object. It runs on without readers."""
    await read_nothing(request)
    key = read_key(request, exchange.principal.id, {})
    old = (await find_job(exchange, job_id)).job
    if not old.is_terminal:
        message = f"The job is {old.status}. Only a job that is over can be retried."
        raise invalid_request(message, code="job_not_over", status=409)
    _require_priority(exchange, old.priority)
    whole = await exchange.services.store.get(job_id)
    if whole is None or whole.raw_request is None:
        message = (
            "The job failed because of its request, which is not kept in such a case. Send the request again."
        )
        raise invalid_request(message, code="request_not_kept", status=409)
    failpoint("retrying")
    return await _accept(exchange, _repeated(exchange, whole, key))


@router.delete("/v1/jobs/{job_id}", dependencies=[known_query()])
async def delete_job(job_id: str, exchange: ExchangeDep) -> dict[str, Any]:
    """End the job, if it is not over, and remove it with its output."""
    await require_owner(exchange, job_id)
    await exchange.services.store.cancel(job_id, "client")
    failpoint("deleting")
    await exchange.services.store.forget(job_id, exchange.principal.id)
    failpoint("deleted")
    return {"id": job_id, "object": "job.deleted", "deleted": True}


def _require_priority(exchange: Exchange, priority: str) -> None:
    if priority == "high":
        exchange.principal.require("admin", "The priority 'high'")


def _new_job(exchange: Exchange, asked: ParsedJob, key: RequestKey | None) -> NewJob:
    job, parsed = asked.job, asked.parsed
    return NewJob(
        id=new_job_id(),
        model=parsed.model,
        owner=exchange.principal.id,
        request=parsed.request,
        endpoint=job.endpoint,
        view=parsed.view,
        priority=job.priority,
        on_disconnect=from_word(job.on_disconnect),
        metadata=job.metadata or parsed.metadata,
        expires_after_s=job.expires_after,
        cancel_after_s=job.cancel_after,
        reader_grace_s=exchange.settings.reader_grace_s,
        retention_s=exchange.settings.retention_s,
        key=key,
    )


def _repeated(exchange: Exchange, old: Job, key: RequestKey | None) -> NewJob:
    return NewJob(
        id=new_job_id(),
        model=old.model,
        owner=old.owner,
        request=old.request,
        endpoint=old.endpoint,
        view=old.view,
        priority=cast(Priority, old.priority),
        metadata=old.metadata,
        expires_after_s=old.expires_after_s,
        cancel_after_s=old.cancel_after_s,
        retention_s=exchange.settings.retention_s,
        retry_of=old.id,
        key=key,
    )


async def _accept(exchange: Exchange, new: NewJob) -> Response:
    accepted = await exchange.services.dispatcher.accept(new)
    mark_replay(exchange.request, accepted)
    if accepted.is_replay:
        shown = await _show(exchange, await find_job(exchange, accepted.job_id))
    else:
        shown = await _show_new(exchange, Job.accepted(new, accepted.created_at))
    return JSONResponse(shown, 202, {"location": shown["urls"]["get"]})


async def _show_new(exchange: Exchange, job: Job) -> dict[str, Any]:
    """A job that was accepted just now. Nothing can fail any more, as its client would repeat the request."""
    try:
        position = await _position(exchange, job)
    except StoreUnavailable:
        position = None
    return exchange.jobs.object(job, position, None, shows_output=False)


async def _show(exchange: Exchange, found: FoundJob, *, shows_output: bool = False) -> dict[str, Any]:
    """The job's object. Its output is read only where it is shown."""
    job = found.job
    has_result = job.status in ("completed", "incomplete")
    result = await result_of(exchange, found) if has_result or shows_output else None
    return exchange.jobs.object(job, await _position(exchange, job), result, shows_output=shows_output)


async def _position(exchange: Exchange, job: Job) -> QueuePosition | None:
    waiting = [(job.model, job.id)] if job.status == "queued" else []
    return next(iter(await exchange.services.wait_estimator.queue_positions(waiting)), None)


async def _wait_for_end(exchange: Exchange, job: Job, wait_s: float) -> None:
    subscription, _ = await resume(exchange.services.relay, job, read_cursor(None, job))
    try:
        watch_client(subscription, exchange.request.receive)
        await until_end_within(subscription, wait_s)
    finally:
        subscription.close("polled")
