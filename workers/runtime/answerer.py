"""Answerer: answers what replicas ask about the model's tokenizer, beside the jobs and without a slot."""

from __future__ import annotations

import logging

from shared.errors import DecodeError, ErrorInfo, RequestError
from shared.store.question import Answer, Asked, Refused
from shared.store.questions import Questions
from workers.backends.backend import Backend
from workers.runtime.backoff import until_available

logger = logging.getLogger(__name__)


class Answerer:
    """Answers one question at a time. `run` it until cancelled."""

    def __init__(self, questions: Questions, backend: Backend, *, model: str) -> None:
        self._questions = questions
        self._backend = backend
        self._model = model

    async def run(self) -> None:
        while True:
            asked = await until_available(lambda: self._questions.take(self._model), "taking questions")
            if asked is not None:
                await self._handle(asked)

    async def _handle(self, asked: Asked) -> None:
        answer = await self._answer(asked)
        await until_available(lambda: self._questions.answer(asked, answer), "an answer")

    async def _answer(self, asked: Asked) -> Answer:
        try:
            return await self._backend.answer(asked.read())
        except RequestError as error:
            return Refused.of(error.info)
        except DecodeError:
            message = "The worker that was asked is older than this replica. Try again."
            return Refused.of(ErrorInfo(message, code="worker_too_old", status=503))
