"""Answer: the one path of all routes that read a job. Accept → subscribe → whole or stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from fastapi import Response
from fastapi.responses import JSONResponse

from api.answers.exchange import Exchange
from api.answers.finder import FoundJob, find_job, result_of
from api.delivery.client_watch import watch_client
from api.delivery.sse_response import SseResponse
from api.delivery.stored_output import StoredOutput
from api.dialects.base import Dialect, JobInfo, Parsed, StreamDialect, View
from api.errors import StreamExpired, error_of, error_of_status, no_worker
from api.http.idempotency import mark_replay
from api.streaming.cursor import Cursor
from api.streaming.readership import Departure
from api.streaming.resume import event_id, read_cursor, resume
from api.streaming.subscription import Subscription
from api.streaming.updates import EndEvent, Update
from api.streaming.wait import until_output
from shared.domain.events import Queued
from shared.domain.job import Job, NewJob
from shared.domain.output import ChoiceOutput
from shared.domain.result import Result
from shared.errors import BatonError, BrokerUnavailable, RequestError

#: How a stream shows the position of a waiting job: as events of the dialect, or as comments, which clients ignore.
QueueShown = Literal["events", "comments"]


@dataclass(frozen=True, slots=True)
class Reading:
    """One client's reading of a job, from a cursor on."""

    subscription: Subscription
    job: JobInfo
    start: Cursor
    #: Nothing is left to read.
    is_over: bool = False

    @property
    def has_begun(self) -> bool:
        """Whether the client has output already: the status line need not wait for any."""
        return self.is_over or any(self.start.positions)

    def is_untouched(self, updates: list[Update]) -> bool:
        """Whether no worker has had the job, as far as this client can tell."""
        return not self.has_begun and all(isinstance(update.event, Queued) for update in updates)

    async def first_updates(self, wait_s: float) -> list[Update]:
        return [] if self.has_begun else await until_output(self.subscription, wait_s)

    @contextmanager
    def closed_on_error(self, departure: Departure = "ended") -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.subscription.close(departure)
            raise


async def answer_new(exchange: Exchange, dialect: Dialect, parsed: Parsed, new: NewJob) -> Response:
    """Accept a job, and answer with its output: whole, or as a stream. The job of a repeated key is read instead.

    The status line waits for the first output or the end; errors that are known by then get their true status.
    """
    dispatcher = exchange.services.dispatcher
    await dispatcher.require_wake_ups(new.key)
    if new.key is None:
        subscription, job = await dispatcher.accept_and_follow(new)
        exchange.name_job(job.job_id)
        reading = Reading(subscription, job, Cursor.start(new.id, job.n))
    else:
        found, text = await _accept_with_key(exchange, parsed, new)
        if not parsed.is_streamed and found.job.is_terminal:
            return await answer_whole(exchange, dialect, found)
        reading = await _take_up(exchange, found.job, read_cursor(text, found.job))
    # A client without a key cannot name the job: when it repeats the request, nobody reads this one any more.
    with reading.closed_on_error("left" if new.key is None else "ended"):
        watch_client(reading.subscription, exchange.request.receive)
        first = await reading.first_updates(exchange.settings.first_output_wait_s)
        if reading.is_untouched(first):
            await _require_start(exchange, reading.job)
        if not parsed.is_streamed:
            return await _whole(reading, dialect, parsed.view, first)
        return _stream(exchange, reading, dialect, parsed.view, first, is_post=True)


async def answer_whole(exchange: Exchange, dialect: Dialect, found: FoundJob) -> Response:
    """A stored job's whole output. Waits for its end."""
    job = found.job
    if job.is_terminal:
        error = job.error or error_of_status(job.status, job.reason)
        if error is not None:
            raise RequestError(error)
        return JSONResponse(dialect.whole(JobInfo.of(job), job.view, await result_of(exchange, found)))
    reading = await _take_up(exchange, job, Cursor.start(job.id, job.n))
    with reading.closed_on_error():
        watch_client(reading.subscription, exchange.request.receive)
        return await _whole(reading, dialect, job.view, [])


async def answer_events(
    exchange: Exchange, dialect: StreamDialect, job: Job, text: str | None, *, shows_queue: bool
) -> Response:
    """A stored job's stream from the event id `text` on; 204 when nothing is left of it.

    `shows_queue`: positions in the queue are events too, and the stream begins at once. Otherwise the status line waits
    as for a new job.
    """
    reading = await _take_up(exchange, job, read_cursor(text, job))
    with reading.closed_on_error():
        watch_client(reading.subscription, exchange.request.receive)
        first: list[Update] = []
        if not shows_queue:
            first = await reading.first_updates(exchange.settings.first_output_wait_s)
        queue: QueueShown = "events" if shows_queue else "comments"
        return _stream(exchange, reading, dialect, job.view, first, is_post=False, queue=queue)


async def _accept_with_key(exchange: Exchange, parsed: Parsed, new: NewJob) -> tuple[FoundJob, str | None]:
    """The job that the key stands for, and the event id from which its stream is to be continued."""
    assert new.key is not None
    text = event_id(exchange.request) if parsed.is_streamed else None
    if text is not None and not await exchange.services.store.is_known(new.key):
        # What this client has read is gone. A new answer would not continue it.
        raise StreamExpired("this request")
    accepted = await exchange.services.dispatcher.accept(new)
    mark_replay(exchange.request, accepted)
    return await find_job(exchange, accepted.job_id), text


async def _take_up(exchange: Exchange, job: Job, start: Cursor) -> Reading:
    subscription, last = await resume(exchange.services.relay, job, start)
    return Reading(subscription, JobInfo.of(job), start, last.is_terminal and start.ending == "over")


async def _require_start(exchange: Exchange, job: JobInfo) -> None:
    """End a job that no worker has started if none will: raises RequestError (503) or BrokerUnavailable, unless it
    ended meanwhile."""
    if not await exchange.services.models.may_be_served(job.model):
        reason: BatonError = no_worker(job.model)
    else:
        try:
            return await exchange.services.dispatcher.require_broker()
        except BrokerUnavailable as error:
            reason = error
    if await exchange.services.withdrawals.give_up(job.job_id) == "cancelled":
        raise reason


async def _whole(reading: Reading, dialect: Dialect, view: View, first: list[Update]) -> Response:
    result, updates = Result.empty(reading.job.n), first
    while True:
        result.take([update.event for update in updates if isinstance(update.event, ChoiceOutput)])
        if updates and updates[-1].is_end:
            break
        updates = await reading.subscription.take()
    _raise_failure(updates)
    result.used = updates[-1].used
    reading.subscription.close()
    return JSONResponse(dialect.whole(reading.job, view, result))


def _stream(
    exchange: Exchange,
    reading: Reading,
    dialect: StreamDialect,
    view: View,
    first: list[Update],
    *,
    is_post: bool,
    queue: QueueShown = "comments",
) -> Response:
    if reading.is_over:
        reading.subscription.close()
        return Response(status_code=204)
    if not any(isinstance(update.event, ChoiceOutput) for update in first):
        _raise_failure(first)
    items = StoredOutput(exchange.services.store, reading.job.job_id, reading.job.n)
    encoder = dialect.encoder(reading.job, view, reading.start, items)
    exchange.services.position_feed.add(reading.subscription, reading.job.model)
    timer = exchange.metrics.stream_meter(exchange.request.state.started_at)
    return SseResponse(
        reading.subscription,
        encoder,
        exchange.settings.ping_s,
        first=first,
        retries=not is_post,
        comments_queue=queue == "comments",
        on_output=timer.sent if is_post else lambda: None,
    )


def _raise_failure(updates: list[Update]) -> None:
    end = updates[-1].event if updates else None
    error = error_of(end) if isinstance(end, EndEvent) else None
    if error is not None:
        raise RequestError(error)
