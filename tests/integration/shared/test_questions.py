"""shared.store.questions."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from shared.domain.request import TextPrompt
from shared.errors import ErrorInfo
from shared.store import keys
from shared.store.question import Asked, Detokenize, Detokenized, Refused, Tokenize, Tokens
from shared.store.questions import Questions

QUESTION = Tokenize(TextPrompt("hi"))
ANSWER = Tokens((1, 2), 100)


async def test_an_answer_reaches_the_one_that_asked(redis_client: Redis) -> None:
    questions = Questions(redis_client)

    async def work() -> None:
        for _ in range(2):
            asked = await questions.take("m")
            assert asked is not None
            question = asked.read()
            await questions.answer(asked, ANSWER if question == QUESTION else Detokenized("x"))

    tokens, text, _ = await asyncio.gather(
        questions.ask("m", QUESTION), questions.ask("m", Detokenize((1,))), work()
    )
    assert (tokens, text) == (ANSWER, Detokenized("x"))


async def test_a_question_that_was_lost_is_asked_again(redis_client: Redis) -> None:
    questions = Questions(redis_client)
    asking = asyncio.create_task(questions.ask("m", QUESTION, wait_s=1))
    lost = await questions.take("m")
    again = None
    while again is None:
        again = await questions.take("m")
    assert lost is not None and again.id == lost.id
    await questions.answer(again, ANSWER)
    assert await asking == ANSWER


async def test_without_an_answer_it_gives_up_and_leaves_nothing(redis_client: Redis) -> None:
    questions = Questions(redis_client)
    assert await questions.ask("m", QUESTION, attempts=1, wait_s=1) is None
    assert 0 < await redis_client.ttl(keys.questions("m")) <= 10
    asked = await questions.take("m")
    assert asked is not None
    await questions.answer(asked, ANSWER)
    assert 0 < await redis_client.ttl(keys.answer(asked.id)) <= 10


async def test_models_do_not_see_each_others_questions(redis_client: Redis) -> None:
    questions = Questions(redis_client)
    asking = asyncio.create_task(questions.ask("m", QUESTION, attempts=1, wait_s=1))
    assert await questions.take("other") is None
    assert await asking is None


async def test_what_is_no_question_is_dropped(redis_client: Redis) -> None:
    questions = Questions(redis_client)
    for raw in ("garbage", "[]", '{"id":1}', "\udcff"):
        await redis_client.rpush(keys.questions("m"), raw.encode(errors="surrogateescape"))
    for _ in range(4):
        assert await questions.take("m") is None
    assert await redis_client.exists(keys.questions("m")) == 0


def test_a_refusal_is_the_error_it_was_made_of() -> None:
    info = ErrorInfo("no", "invalid_request_error", "prompt", "invalid_value", 400)
    assert Refused.of(info).error.info == info


def test_a_question_of_a_newer_version_names_itself() -> None:
    asked = Asked.decode('{"id":"a","question":{"kind":"count","new":1}}')
    assert asked.id == "a"
