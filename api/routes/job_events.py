"""/v1/jobs/{id}/events: what happens to a job, as it happens or by polling."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api.answers.answer import answer_events
from api.answers.exchange import Exchange
from api.answers.finder import find_job
from api.delivery.client_watch import watch_client
from api.delivery.stored_output import StoredOutput
from api.dependencies import READS, ExchangeDep, known_query
from api.dialects.base import JobInfo
from api.dialects.jobs.encoder import items_json
from api.http.query import MAX_WAIT_S, read_count, read_seconds
from api.streaming.resume import event_id, expired_if_ours, read_cursor, resume
from api.streaming.updates import Update
from api.streaming.wait import until_page
from shared.domain.job import Job
from shared.errors import RequestError

router = APIRouter()


@router.get(
    "/v1/jobs/{job_id}/events", dependencies=[READS, known_query("after", "starting_after", "limit", "wait")]
)
async def job_events(request: Request, job_id: str, exchange: ExchangeDep) -> Response:
    """The job's events from `Last-Event-ID` or `?after=` on: as SSE, or as JSON for polling."""
    text = event_id(request, "after", "starting_after")
    try:
        job = (await find_job(exchange, job_id)).job
    except RequestError as error:
        raise expired_if_ours(text, job_id, error) from error
    if _wants_json(request.headers.get("accept", "")):
        return JSONResponse(await _poll(exchange, job, text))
    return await answer_events(exchange, exchange.jobs, job, text, shows_queue=True)


async def _poll(exchange: Exchange, job: Job, text: str | None) -> dict[str, Any]:
    """`{events, cursor, done}`; with `?wait=` at least one event, unless the time is up.

    While the job waits for a worker the last event has its position in the queue.
    """
    query = exchange.request.query_params
    limit = read_count("limit", query.get("limit"), default=1000, most=10_000)
    wait_s = read_seconds("wait", query.get("wait"), most=MAX_WAIT_S)
    start = cursor = read_cursor(text, job)
    subscription, last = await resume(exchange.services.relay, job, cursor)
    try:
        is_over = last.is_terminal and cursor.ending == "over"
        watch_client(subscription, exchange.request.receive)
        updates = [] if is_over else await until_page(subscription, wait_s, limit)
    finally:
        subscription.close("polled")
    cursor = updates[-1].cursor if updates else cursor
    if subscription.is_waiting and len(updates) < limit:
        positions = await exchange.services.wait_estimator.queue_positions([(job.model, job.id)])
        updates += [Update(position, cursor) for position in positions if position is not None]
    items = StoredOutput(exchange.services.store, job.id, job.n)
    blocks = await exchange.jobs.encoder(JobInfo.of(job), job.view, start, items).encode(updates)
    if len(blocks) > limit:  # a dialect may write several events for one update
        return {"events": items_json(blocks[:limit]), "cursor": blocks[limit - 1].id, "done": False}
    return {
        "events": items_json(blocks),
        "cursor": cursor.encode(),
        "done": is_over or cursor.ending == "over",
    }


def _wants_json(accept: str) -> bool:
    return "application/json" in accept and "text/event-stream" not in accept
