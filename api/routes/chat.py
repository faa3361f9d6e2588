"""/v1/chat/completions: a chat, whole or streamed, and taking one up again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, get_args

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api.dependencies import (
    READS,
    MetricsDep,
    Owner,
    ServicesDep,
    SettingsDep,
    find_job,
    name_job,
    read_json,
    unknown_job,
)
from api.dialects.openai_chat.chunks import JobInfo, completion, job_id_of
from api.dialects.openai_chat.schema import ChatRequest, read_chat
from api.dialects.openai_chat.stream_view import ChatStreamView
from api.errors import NO_WORKER, StreamExpired, error_of
from api.http.idempotency import PARAMETER, comparable_body, mark_replay, read_key
from api.http.openapi import request_body
from api.http.query import read_word
from api.lifespan import Services
from api.metrics.stream_timer import StreamTimer
from api.settings import ApiSettings
from api.streaming.cursor import Cursor
from api.streaming.resume import event_id, expired_if_ours, job_info_of, read_cursor, resume
from api.streaming.sse_response import SseResponse, watch_client
from api.streaming.subscription import Subscription
from api.streaming.updates import EndEvent, Update
from api.streaming.wait import until_end, until_output
from shared.domain.events import ChoiceOutput, Queued
from shared.domain.job import Job, NewJob, OnDisconnect, new_job_id
from shared.domain.request_key import RequestKey
from shared.errors import ErrorInfo, RequestError

router = APIRouter()
_EXAMPLE = {
    "model": "SmolLM2-135M-Instruct",
    "messages": [{"role": "user", "content": "Hello!"}],
    "temperature": 0,
    "stream": True,
}

#: Header of a chat: `continue` lets it go on when nobody reads it, `cancel` is the default.
ON_DISCONNECT = "Baton-On-Disconnect"
_ON_DISCONNECT = {
    "name": ON_DISCONNECT,
    "in": "header",
    "required": False,
    "description": "Whether the chat goes on when nobody reads it.",
    "schema": {"type": "string", "enum": list(get_args(OnDisconnect)), "default": "cancel"},
}


@router.post(
    "/v1/chat/completions",
    dependencies=[READS],
    openapi_extra={**request_body(ChatRequest, _EXAMPLE), "parameters": [PARAMETER, _ON_DISCONNECT]},
)
async def create_chat(
    request: Request, owner: Owner, services: ServicesDep, settings: SettingsDep, metrics: MetricsDep
) -> Response:
    """Answer a chat. A client that leaves may come back for it within the readers' grace time: with
    `Idempotency-Key` by the same request, else by the chat's own addresses."""
    chat = read_chat(await read_json(request))
    await services.models.require(chat.model)
    new = _new_job(request, chat, owner, settings)
    if new.key is None:
        reading = await _begin(request, services, new)
    else:
        reading = await _begin_or_repeat(request, services, new, new.key, is_streamed=chat.stream)
    with reading.closed_on_error():
        watch_client(reading.subscription, request.receive)
        news = await reading.first_news(settings.first_output_wait_s)
        if reading.is_untouched(news) and not await services.models.may_be_served(new.model):
            await _give_up(services, reading.job_info)
        if not chat.stream:
            return await _whole(reading, news)
        meter = metrics.stream_meter(request.state.started_at)
        return _stream(reading, news, settings, meter, include_usage=chat.include_usage)


@router.get("/v1/chat/completions/{completion_id}", dependencies=[READS])
async def get_chat(request: Request, completion_id: str, owner: Owner, services: ServicesDep) -> Response:
    """The whole chat; waits for its end."""
    job = await _find(request, services, owner, completion_id)
    reading = await _take_up(services, job, Cursor.start(job.id, job.n))
    with reading.closed_on_error():
        watch_client(reading.subscription, request.receive)
        return await _whole(reading, [])


@router.get("/v1/chat/completions/{completion_id}/events", dependencies=[READS])
async def resume_chat(
    request: Request,
    completion_id: str,
    owner: Owner,
    services: ServicesDep,
    settings: SettingsDep,
) -> Response:
    """The chat's stream from `Last-Event-ID` or `?starting_after=` on; 204 when nothing is left of it."""
    text = event_id(request, "starting_after")
    job = await _find(request, services, owner, completion_id, text)
    reading = await _take_up(services, job, read_cursor(text, job))
    with reading.closed_on_error():
        watch_client(reading.subscription, request.receive)
        news = await reading.first_news(settings.first_output_wait_s)
        return _stream(reading, news, settings, None, include_usage=_wants_usage(job))


class _Reading(NamedTuple):
    """One client's reading of a chat, from a cursor on."""

    subscription: Subscription
    job_info: JobInfo
    start: Cursor
    #: Nothing is left to read.
    is_over: bool = False

    @property
    def has_begun(self) -> bool:
        """Whether the client has output already: the status line need not wait for any."""
        return self.is_over or any(self.start.positions)

    def is_untouched(self, news: list[Update]) -> bool:
        """Whether no worker has had the job, as far as this client can tell."""
        return not self.has_begun and all(isinstance(one.event, Queued) for one in news)

    async def first_news(self, wait_s: float) -> list[Update]:
        return [] if self.has_begun else await until_output(self.subscription, wait_s)

    @contextmanager
    def closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.subscription.close()
            raise


async def _begin(request: Request, services: Services, new: NewJob) -> _Reading:
    name_job(request, new.id)
    subscription, job_info = await services.dispatcher.accept_and_follow(new)
    return _Reading(subscription, job_info, Cursor.start(new.id, new.n))


async def _begin_or_repeat(
    request: Request, services: Services, new: NewJob, key: RequestKey, *, is_streamed: bool
) -> _Reading:
    """With a key: the chat that the key stands for. A stream goes on from `Last-Event-ID`, if it is given."""
    text = event_id(request) if is_streamed else None
    if text is not None and not await services.store.is_known(key):
        # What this client has read is gone: a new answer would not go on from there.
        raise StreamExpired("this request")
    accepted = await services.dispatcher.accept(new)
    mark_replay(request, accepted)
    job = await find_job(request, services, new.owner, accepted.job_id)
    return await _take_up(services, job, read_cursor(text, job))


async def _take_up(services: Services, job: Job, start: Cursor) -> _Reading:
    subscription, last = await resume(services.relay, job, start)
    return _Reading(subscription, job_info_of(job), start, last.is_terminal and start.ending == "over")


def _new_job(request: Request, chat: ChatRequest, owner: str, settings: ApiSettings) -> NewJob:
    on_disconnect = read_word(ON_DISCONNECT, request.headers.get(ON_DISCONNECT), get_args(OnDisconnect))
    return NewJob(
        id=new_job_id(),
        model=chat.model,
        owner=owner,
        body=chat.to_body(),
        n=chat.n,
        on_disconnect=on_disconnect or "cancel",
        metadata=chat.metadata or {},
        reader_grace_s=settings.reader_grace_s,
        retention_s=settings.retention_s,
        key=read_key(request, owner, comparable_body(chat)),
    )


async def _find(
    request: Request, services: Services, owner: str, completion_id: str, text: str | None = None
) -> Job:
    job_id = job_id_of(completion_id)
    if not job_id:
        raise unknown_job(completion_id)
    try:
        return await find_job(request, services, owner, job_id)
    except RequestError as error:
        raise expired_if_ours(text, job_id, error) from error


async def _give_up(services: Services, job_info: JobInfo) -> None:
    """Nobody serves the model: end the job. Raises RequestError (503), unless it ended meanwhile."""
    if await services.store.give_up(job_info.job_id, "deadline") == "cancelled":
        message = f"No worker serves the model '{job_info.model}' now."
        raise RequestError(ErrorInfo(message, code=NO_WORKER, status=503))


async def _whole(reading: _Reading, news: list[Update]) -> Response:
    news = await until_end(reading.subscription, news)
    _raise_failure(news)
    reading.subscription.close()
    return JSONResponse(completion(reading.job_info, news))


def _stream(
    reading: _Reading,
    news: list[Update],
    settings: ApiSettings,
    meter: StreamTimer | None,
    *,
    include_usage: bool,
) -> Response:
    if reading.is_over:
        reading.subscription.close()
        return Response(status_code=204)
    _raise_early_failure(news)
    view = ChatStreamView(reading.job_info, reading.start, include_usage=include_usage)
    return SseResponse(reading.subscription, view, settings.ping_s, first=news, headers={}, meter=meter)


def _raise_early_failure(news: list[Update]) -> None:
    """A stream without any output yet can still tell the true status."""
    if not any(isinstance(one.event, ChoiceOutput) for one in news):
        _raise_failure(news)


def _raise_failure(news: list[Update]) -> None:
    end = news[-1].event if news else None
    error = error_of(end) if isinstance(end, EndEvent) else None
    if error is not None:
        raise RequestError(error)


def _wants_usage(job: Job) -> bool:
    options = job.body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True
