"""/v1/chat/completions: a chat, whole or streamed, and continuing to read one."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from api.answers.endpoint import answer_object, answer_object_events, answer_request
from api.dependencies import READS, ExchangeDep, known_query, read_json
from api.dialects.openai_chat.dialect import OpenAIChat
from api.dialects.openai_chat.schema import ChatRequest
from api.http.idempotency import PARAMETER
from api.http.on_disconnect import PARAMETER as ON_DISCONNECT
from api.http.openapi import request_body

router = APIRouter()
_CHAT = OpenAIChat()
_EXAMPLE = {
    "model": "SmolLM2-135M-Instruct",
    "messages": [{"role": "user", "content": "Hello!"}],
    "temperature": 0,
    "stream": True,
}


@router.post(
    _CHAT.endpoint,
    dependencies=[READS],
    openapi_extra={**request_body(ChatRequest, _EXAMPLE), "parameters": [PARAMETER, ON_DISCONNECT]},
)
async def create_chat(request: Request, exchange: ExchangeDep) -> Response:
    """Answer a chat. A client whose connection broke may continue: with `Idempotency-Key` by the same request,
    otherwise by the addresses of the chat's id."""
    return await answer_request(exchange, _CHAT, await read_json(request))


@router.get(_CHAT.endpoint + "/{completion_id}", dependencies=[READS, known_query()])
async def get_chat(completion_id: str, exchange: ExchangeDep) -> Response:
    """The whole chat. Waits for its end."""
    return await answer_object(exchange, _CHAT, completion_id)


@router.get(_CHAT.endpoint + "/{completion_id}/events", dependencies=[READS, known_query("starting_after")])
async def resume_chat(completion_id: str, exchange: ExchangeDep) -> Response:
    """The chat's stream from `Last-Event-ID` or `?starting_after=` on; 204 when nothing is left of it."""
    return await answer_object_events(exchange, _CHAT, completion_id)
