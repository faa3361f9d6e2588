"""/v1/jobs/{id}/events: what happens to a job, as it happens or by polling."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api.dependencies import READS, Owner, ServicesDep, SettingsDep, find_job
from api.dialects.jobs.event_view import JobEventView
from api.http.query import MAX_WAIT_S, read_count, read_seconds
from api.lifespan import Services
from api.streaming.resume import event_id, expired_if_ours, job_info_of, read_cursor, resume
from api.streaming.sse_response import SseResponse, watch_client
from api.streaming.updates import Update
from api.streaming.wait import until_page
from shared.domain.job import Job
from shared.errors import RequestError

router = APIRouter()


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
    subscription, last = await resume(services.relay, job, cursor)
    if last.is_terminal and cursor.ending == "over":
        subscription.close()
        return Response(status_code=204)
    watch_client(subscription, request.receive)
    services.position_feed.add(subscription, job.model)
    return SseResponse(subscription, JobEventView(job_info_of(job)), settings.ping_s, first=[], headers={})


async def _poll(request: Request, services: Services, job: Job, text: str | None) -> dict[str, Any]:
    """`{events, cursor, done}`; with `?wait=` at least one event, unless the time is up.

    While the job waits for a worker the last event tells its place.
    """
    limit = read_count("limit", request.query_params.get("limit"), default=1000, most=10_000)
    wait_s = read_seconds("wait", request.query_params.get("wait"), most=MAX_WAIT_S)
    cursor = read_cursor(text, job)
    subscription, last = await resume(services.relay, job, cursor)
    try:
        is_over = last.is_terminal and cursor.ending == "over"
        watch_client(subscription, request.receive)
        news = [] if is_over else await until_page(subscription, wait_s, limit)
    finally:
        subscription.close()
    cursor = news[-1].cursor if news else cursor
    if subscription.is_waiting and len(news) < limit:
        places = await services.wait_estimator.queue_positions([(job.model, job.id)])
        news += [Update(place, cursor, sum(cursor.positions)) for place in places if place is not None]
    events = JobEventView(job_info_of(job)).items(news)
    return {"events": events, "cursor": cursor.encode(), "done": is_over or cursor.ending == "over"}


def _wants_json(accept: str) -> bool:
    return "application/json" in accept and "text/event-stream" not in accept
