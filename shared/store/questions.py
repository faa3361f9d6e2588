"""Questions: how replicas ask workers what only a model's tokenizer knows. Neither side keeps anything.

A question goes to a list of its model, from which one worker takes it, and the answer to a list of its own. Whoever
dies in between loses it: the replica asks again.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable
from typing import cast

from redis.asyncio import Redis

from shared.errors import DecodeError
from shared.store import keys
from shared.store.question import Answer, Asked, Question, decode_answer, encode_answer
from shared.store.redis_client import reads_replies

logger = logging.getLogger(__name__)

#: Seconds after which nobody waits for a question or an answer any more.
_LIFE_S = 10
#: Questions of a model that may wait. The oldest of more are dropped.
_MAX_WAITING = 1000
#: A blocking call ends after this time, within the timeout of the connection.
_CALL_S = 1


@reads_replies
class Questions:
    """Both sides. Calls raise StoreUnavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def ask(
        self, model: str, question: Question, *, attempts: int = 2, wait_s: int = 3
    ) -> Answer | None:
        """Ask any worker of a model. Returns None if none answers within `attempts` times `wait_s`."""
        asked = Asked.of(secrets.token_hex(12), question)
        for _ in range(attempts):
            await self._put(keys.questions(model), asked.encode())
            for _ in range(wait_s // _CALL_S):
                raw = await self._pop(keys.answer(asked.id))
                if raw is not None:
                    return decode_answer(raw)
        return None

    async def take(self, model: str) -> Asked | None:
        """Take a model's next question. Returns None if there is none for a second."""
        raw = await self._pop(keys.questions(model))
        try:
            return None if raw is None else Asked.decode(raw)
        except DecodeError:
            logger.warning("dropped an unreadable question")
            return None

    async def answer(self, asked: Asked, answer: Answer) -> None:
        """Answer a question that was taken."""
        await self._put(keys.answer(asked.id), encode_answer(answer))

    async def _put(self, key: str, value: str) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.rpush(key, value)
            pipe.ltrim(key, -_MAX_WAITING, -1)
            pipe.expire(key, _LIFE_S)
            await pipe.execute()

    async def _pop(self, key: str) -> str | None:
        found = await cast(Awaitable[list[str] | None], self._redis.blpop([key], timeout=_CALL_S))
        return found[1] if found else None
