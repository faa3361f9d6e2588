"""Asking: a question to a worker that is no job."""

from __future__ import annotations

from typing import TypeVar

from api.answers.exchange import Exchange
from api.errors import no_worker
from shared.errors import ErrorInfo, RequestError
from shared.store.question import Answer, Question, Refused

A = TypeVar("A", bound=Answer)


async def ask(exchange: Exchange, model: str | None, question: Question, kind: type[A]) -> A:
    """A worker's answer, of the kind that belongs to the question. `model` None: the first one that is served.

    Raises RequestError: the worker's own; 404 for an unknown model; 503 if no worker serves it or none answers.
    """
    models, store = exchange.services.models, exchange.services.store
    served = [found.name for found in await models.served()]
    name = (served[0] if served else models.configured) if model is None else model
    await models.require(name)
    if name not in served:
        raise no_worker(name)
    answer = await store.questions.ask(name, question)
    if isinstance(answer, Refused):
        raise answer.error
    if not isinstance(answer, kind):
        message = f"No worker of the model '{name}' answered in time. Try again."
        raise RequestError(ErrorInfo(message, code="no_answer", status=503))
    return answer
