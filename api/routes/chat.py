"""/v1/chat/completions: a chat, whole or streamed, and taking one up again."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api.chat_view import ChatView
from api.cursor import Cursor
from api.deps import READS, MetricsDep, Owner, ServicesDep, SettingsDep, find_job, name_job, read_json
from api.errors import NO_WORKER, error_of
from api.event_stream import EventStream, watch_client
from api.follower import Follower
from api.join import EndEvent, News
from api.openapi import request_body
from api.resuming import event_id, expired_if_ours, facts_of, read_cursor, resume
from api.schemas.chat import ChatRequest, read_chat
from api.services import Services
from api.settings import ApiSettings
from api.translate import Facts, completion, job_id_of
from api.waiting import until_end, until_output
from shared.errors import ErrorInfo, RequestError
from shared.events import ChoiceOutput
from shared.job import Job, NewJob, new_job_id

router = APIRouter()
_EXAMPLE = {
    "model": "SmolLM2-135M-Instruct",
    "messages": [{"role": "user", "content": "Hello!"}],
    "temperature": 0,
    "stream": True,
}


@router.post("/v1/chat/completions", dependencies=[READS], openapi_extra=request_body(ChatRequest, _EXAMPLE))
async def create_chat(
    request: Request, owner: Owner, services: ServicesDep, settings: SettingsDep, metrics: MetricsDep
) -> Response:
    """Answer a chat. A client that leaves may come back for it within the readers' grace time."""
    chat = read_chat(await read_json(request))
    await services.models.require(chat.model)
    job = _new_job(chat, owner, settings)
    name_job(request, job.id)
    follower, facts = await services.dispatcher.accept_and_follow(job)
    try:
        watch_client(follower, request.receive)
        news = await until_output(follower, settings.first_output_wait_s)
        if not news and not await services.models.may_be_served(job.model):
            await _give_up(services, job)
        if not chat.stream:
            return await _whole(follower, facts, news)
        _raise_early_failure(news)
    except BaseException:
        follower.close()
        raise
    start = Cursor.start(job.id, job.n)
    view = ChatView(facts, start, include_usage=chat.include_usage)
    meter = metrics.stream_meter(request.state.started_at)
    return EventStream(follower, view, settings.ping_s, first=news, headers={}, meter=meter)


@router.get("/v1/chat/completions/{completion_id}", dependencies=[READS])
async def get_chat(request: Request, completion_id: str, owner: Owner, services: ServicesDep) -> Response:
    """The whole chat; waits for its end."""
    job = await _find(request, services, owner, completion_id)
    follower, _ = await resume(services.relay, job, Cursor.start(job.id, job.n))
    try:
        watch_client(follower, request.receive)
        return await _whole(follower, facts_of(job), [])
    except BaseException:
        follower.close()
        raise


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
    cursor = read_cursor(text, job)
    follower, last = await resume(services.relay, job, cursor)
    try:
        watch_client(follower, request.receive)
        if last.is_terminal and cursor.ending == "over":
            follower.close()
            return Response(status_code=204)
        news: list[News] = []
        if not any(cursor.positions):
            news = await until_output(follower, settings.first_output_wait_s)
            _raise_early_failure(news)
    except BaseException:
        follower.close()
        raise
    view = ChatView(facts_of(job), cursor, include_usage=_wants_usage(job))
    return EventStream(follower, view, settings.ping_s, first=news, headers={})


def _new_job(chat: ChatRequest, owner: str, settings: ApiSettings) -> NewJob:
    return NewJob(
        id=new_job_id(),
        model=chat.model,
        owner=owner,
        body=chat.to_body(),
        n=chat.n,
        on_disconnect="cancel",
        metadata=chat.metadata or {},
        reader_grace_s=settings.reader_grace_s,
        retention_s=settings.retention_s,
    )


async def _find(
    request: Request, services: Services, owner: str, completion_id: str, text: str | None = None
) -> Job:
    job_id = job_id_of(completion_id)
    try:
        return await find_job(request, services, owner, job_id)
    except RequestError as error:
        raise expired_if_ours(text, job_id, error) from error


async def _give_up(services: Services, job: NewJob) -> None:
    """Nobody serves the model: end the job. Raises RequestError (503), unless it ended meanwhile."""
    if await services.store.cancel(job.id, "deadline") == "cancelled":
        message = f"No worker serves the model '{job.model}' now."
        raise RequestError(ErrorInfo(message, code=NO_WORKER, status=503))


async def _whole(follower: Follower, facts: Facts, news: list[News]) -> Response:
    news = await until_end(follower, news)
    _raise_failure(news)
    follower.close()
    return JSONResponse(completion(facts, news))


def _raise_early_failure(news: list[News]) -> None:
    """A stream without any output yet can still tell the true status."""
    if not any(isinstance(one.event, ChoiceOutput) for one in news):
        _raise_failure(news)


def _raise_failure(news: list[News]) -> None:
    end = news[-1].event if news else None
    error = error_of(end) if isinstance(end, EndEvent) else None
    if error is not None:
        raise RequestError(error)


def _wants_usage(job: Job) -> bool:
    options = job.body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True
