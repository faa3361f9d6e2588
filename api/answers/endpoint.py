"""Endpoint: what the routes of every dialect do: a POST, the object it made, and that object's stream."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from api.answers.answer import answer_events, answer_new, answer_whole
from api.answers.exchange import Exchange
from api.answers.finder import FoundJob, find_job, unknown_job
from api.dialects.base import Dialect
from api.http.idempotency import read_key
from api.http.on_disconnect import from_headers
from api.streaming.resume import event_id, expired_if_ours
from shared.domain.job import NewJob, new_job_id
from shared.errors import RequestError


async def answer_request(exchange: Exchange, dialect: Dialect, fields: dict[str, Any]) -> Response:
    """Answer a request of the dialect, given its body."""
    parsed = dialect.parse(fields)
    exchange.report_ignored(parsed.ignored)
    await exchange.services.models.require(parsed.model)
    owner, settings = exchange.principal.id, exchange.settings
    new = NewJob(
        id=new_job_id(),
        model=parsed.model,
        owner=owner,
        request=parsed.request,
        endpoint=dialect.endpoint,
        view=parsed.view,
        on_disconnect=from_headers(exchange.request.headers),
        metadata=parsed.metadata,
        reader_grace_s=settings.reader_grace_s,
        retention_s=settings.retention_s,
        key=read_key(exchange.request, owner, fields),
    )
    return await answer_new(exchange, dialect, parsed, new)


async def answer_object(exchange: Exchange, dialect: Dialect, object_id: str) -> Response:
    """The whole object that a request of the dialect made. Waits for its end."""
    return await answer_whole(exchange, dialect, await _find(exchange, dialect, object_id, None))


async def answer_object_events(exchange: Exchange, dialect: Dialect, object_id: str) -> Response:
    """Its stream from `Last-Event-ID` or `?starting_after=` on."""
    text = event_id(exchange.request, "starting_after")
    found = await _find(exchange, dialect, object_id, text)
    return await answer_events(exchange, dialect, found.job, text, shows_queue=False)


async def _find(exchange: Exchange, dialect: Dialect, object_id: str, text: str | None) -> FoundJob:
    job_id = dialect.job_id(object_id)
    if job_id is None:
        raise unknown_job(object_id)
    try:
        found = await find_job(exchange, job_id)
    except RequestError as error:
        raise expired_if_ours(text, job_id, error) from error
    if found.job.endpoint != dialect.endpoint:
        raise unknown_job(object_id)
    return found
