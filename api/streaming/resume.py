"""Resuming: from which event a reader continues, and joining the job's stream there."""

from __future__ import annotations

from fastapi import Request

from api.errors import EventUnreadable, StreamCorrupt, StreamExpired
from api.streaming.cursor import Cursor, InvalidCursor, behind_the_end, invalid_event_id
from api.streaming.relay import Relay
from api.streaming.subscription import Subscription
from shared.domain.events import Entry
from shared.domain.job import Job
from shared.errors import DecodeError, RequestError


def event_id(request: Request, *names: str) -> str | None:
    """`Last-Event-ID`, else the first of these query parameters; an empty one counts as none."""
    given = [request.headers.get("last-event-id"), *(request.query_params.get(name) for name in names)]
    return next((text for text in given if text), None)


def read_cursor(text: str | None, job: Job) -> Cursor:
    """Raises RequestError (400) for what is not an event id of this job."""
    if text is None:
        return Cursor.start(job.id, job.n)
    try:
        return Cursor.decode(text, job.id, job.n)
    except InvalidCursor as error:
        raise invalid_event_id("it is not an id of this job's events") from error


def expired_if_ours(text: str | None, job_id: str, error: RequestError) -> RequestError:
    """410 instead of 404 for a client that has an event id of the job, so it has read a job that is gone now."""
    try:
        if text is not None and error.info.status == 404:
            Cursor.decode(text, job_id)
            return StreamExpired(job_id)
    except InvalidCursor:
        pass
    return error


async def resume(relay: Relay, job: Job, cursor: Cursor) -> tuple[Subscription, Entry]:
    """Follow the job from the cursor on. Returns the stream's last entry too.

    A cursor ahead of an unfinished job waits for it, as Redis may have lost the end of its file. Raises RequestError
    (400) for a cursor ahead of a finished one, StreamExpired, StreamCorrupt, EventUnreadable, StoreUnavailable.
    """
    if cursor.ending == "over" and not job.is_terminal:
        cursor = cursor._replace(ending="open")
    subscription = relay.follow(job.id, cursor)
    try:
        last = await relay.catch_up(subscription)
        if last.is_terminal and cursor.is_ahead_of(last.end):
            raise behind_the_end()
        if cursor.ending == "over" and not last.is_terminal:
            # The record says that the job has ended, and its stream does not: nothing more would come.
            raise StreamCorrupt(job.id)
    except DecodeError as error:
        subscription.close()
        raise EventUnreadable(job.id) from error
    except BaseException:
        subscription.close()
        raise
    return subscription, last
