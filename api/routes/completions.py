"""/v1/completions: a text that the model continues, whole or streamed, and continuing to read one."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from api.answers.endpoint import answer_object, answer_object_events, answer_request
from api.dependencies import READS, ExchangeDep, known_query, read_json
from api.dialects.openai_completions.dialect import OpenAICompletions
from api.dialects.openai_completions.schema import CompletionRequest
from api.http.idempotency import PARAMETER
from api.http.on_disconnect import PARAMETER as ON_DISCONNECT
from api.http.openapi import request_body

router = APIRouter()
_COMPLETIONS = OpenAICompletions()
_EXAMPLE = {
    "model": "SmolLM2-135M-Instruct",
    "prompt": "The capital of France is",
    "max_tokens": 8,
    "temperature": 0,
}


@router.post(
    _COMPLETIONS.endpoint,
    dependencies=[READS],
    openapi_extra={**request_body(CompletionRequest, _EXAMPLE), "parameters": [PARAMETER, ON_DISCONNECT]},
)
async def create_completion(request: Request, exchange: ExchangeDep) -> Response:
    """Continue one or several texts. A client whose connection broke may continue as with a chat."""
    return await answer_request(exchange, _COMPLETIONS, await read_json(request))


@router.get(_COMPLETIONS.endpoint + "/{completion_id}", dependencies=[READS, known_query()])
async def get_completion(completion_id: str, exchange: ExchangeDep) -> Response:
    """The whole completion. Waits for its end."""
    return await answer_object(exchange, _COMPLETIONS, completion_id)


@router.get(
    _COMPLETIONS.endpoint + "/{completion_id}/events", dependencies=[READS, known_query("starting_after")]
)
async def resume_completion(completion_id: str, exchange: ExchangeDep) -> Response:
    """The completion's stream from `Last-Event-ID` or `?starting_after=` on; 204 when nothing is left of it."""
    return await answer_object_events(exchange, _COMPLETIONS, completion_id)
