"""A worker before a service: no token ids, finish reasons and usage of its own, and perhaps no continuation."""

from __future__ import annotations

import asyncio

import pytest

from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.events import Completed, Failed, Incomplete, Queued, Requeued, Resumed, Started
from shared.domain.output import Args, Close, Data, Finish, Op, Open, Reasoning, Refusal, Text
from shared.domain.result import Result
from shared.domain.usage import Usage
from shared.store.job_store import JobStore
from tests.integration.workers.harness import Harness, Jobs, eventually, reap
from tests.scripted_upstream import Answer, ScriptedUpstream

OPS: tuple[Op, ...] = (
    Reasoning("The weather in Prague is asked for. " * 3),
    Data("signature", "c2lnbmVk"),
    Text("I look it up. "),
    Open("weather", "call_7"),
    Args('{"city": "Prague", "days": [1, 2, 3], "why": "' + "so " * 20 + '"}'),
    Close(),
    Text("Here it is: "),
    Refusal("I cannot say. " * 3),
)
USED = Usage(prompt=11, completion=42, cached=5, reasoning=30)
ANSWER = Answer(OPS, Finish("content_filter"), USED)
#: Units of the whole answer, and where the call's arguments are.
IN_ARGS = 50


def items(result: Result) -> list[tuple[str, str, str | None, str | None, dict[str, str]]]:
    return [(item.kind, item.text, item.name, item.id, item.data) for item in result.choices[0].items]


def expected() -> list[tuple[str, str, str | None, str | None, dict[str, str]]]:
    return [
        ("reasoning", "The weather in Prague is asked for. " * 3, None, None, {"signature": "c2lnbmVk"}),
        ("text", "I look it up. ", None, None, {}),
        (
            "args",
            '{"city": "Prague", "days": [1, 2, 3], "why": "' + "so " * 20 + '"}',
            "weather",
            "call_7",
            {},
        ),
        ("text", "Here it is: ", None, None, {}),
        ("refusal", "I cannot say. " * 3, None, None, {}),
    ]


async def test_an_answer_is_streamed_in_parts_and_stored(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    job_id = await jobs.create(content="What is the weather?")
    upstream = ScriptedUpstream(ANSWER, can_continue=False)
    async with Harness(store, sender, backend=upstream) as harness:
        harness.send(job_id)
        job = await jobs.ended(job_id)
    assert await jobs.life(job_id) == [Queued(), Started("w1"), Completed()]
    result = await jobs.result(job_id)
    assert items(result) == expected()
    assert result == await jobs.read_again(job_id)
    (choice,) = result.choices
    assert (choice.finish, choice.token_ids) == (Finish("content_filter"), None)
    assert (result.used, job.used) == (USED, USED)
    assert len(upstream.resolved) == 1


async def test_a_limit_of_the_services_makes_it_incomplete(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    job_id = await jobs.create()
    backend = ScriptedUpstream(Answer((Text("Well"),), Finish("length")), can_continue=False)
    async with Harness(store, sender, backend=backend) as harness:
        harness.send(job_id)
        await jobs.ended(job_id)
    assert (await jobs.life(job_id))[-1] == Incomplete()


@pytest.mark.parametrize("position", [1, 20, IN_ARGS, 70])
@pytest.mark.parametrize("how", ["drained", "killed"])
async def test_a_service_that_can_continues_character_by_character(
    store: JobStore, sender: WakeUpSender, jobs: Jobs, how: str, position: int
) -> None:
    job_id = await jobs.create()
    first = ScriptedUpstream(ANSWER, can_continue=True)
    async with Harness(store, sender, name="first", backend=first) as harness:
        harness.send(job_id)
        await jobs.reached(job_id, position)
        if how == "killed":
            await reap(store)
    second = ScriptedUpstream(ANSWER, can_continue=True, piece=5)
    async with Harness(store, sender, name="second", backend=second) as harness:
        harness.send(job_id)
        job = await jobs.ended(job_id)
    reason = "drain" if how == "drained" else "worker_died"
    assert await jobs.life(job_id) == [
        Queued(),
        Started("first"),
        Requeued(reason),
        Resumed("second", attempt=2),
        Completed(),
    ]
    result = await jobs.result(job_id)
    assert items(result) == expected() and result == await jobs.read_again(job_id)
    assert job.used == USED
    assert (len(second.resolved), second.loaded) == (0, first.resolved)


async def test_a_job_that_its_service_cannot_continue_fails_after_its_output(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    job_id = await jobs.create()
    async with Harness(
        store, sender, name="first", backend=ScriptedUpstream(ANSWER, can_continue=False)
    ) as harness:
        harness.send(job_id)
        await jobs.reached(job_id, 10)
        await reap(store)
    second = ScriptedUpstream(ANSWER, can_continue=False)
    async with Harness(store, sender, name="second", backend=second) as harness:
        harness.send(job_id)
        job = await jobs.ended(job_id)
    event = (await jobs.life(job_id))[-1]
    assert isinstance(event, Failed)
    assert (event.error.code, event.error.status) == ("upstream_interrupted", 502)
    assert job.end >= (10,) and second.loaded == []
    found = await store.get_with_result(job_id)
    assert found is not None and found[1] is None


async def test_a_drain_lets_what_cannot_be_continued_finish(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    job_id, untouched = await jobs.create(), await jobs.create()
    backend = ScriptedUpstream(ANSWER, can_continue=False)
    async with Harness(store, sender, slots=1, backend=backend, finish_s=10) as harness:
        harness.send(job_id)
        harness.send(untouched)
        await jobs.reached(job_id, 10)
    finished, waiting = await jobs.get(job_id), await jobs.get(untouched)
    assert (finished.status, finished.attempts) == ("completed", 1)
    assert (waiting.status, waiting.attempts) == ("queued", 0)


async def test_a_job_without_output_is_started_again(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    job_id = await jobs.create()
    late = ScriptedUpstream(ANSWER, can_continue=False, is_late=True)
    async with Harness(store, sender, name="first", backend=late) as harness:
        harness.send(job_id)

        async def is_asked() -> bool:
            return late.stats.running == 1

        await eventually(is_asked)
        await reap(store)
    async with Harness(
        store, sender, name="second", backend=ScriptedUpstream(ANSWER, can_continue=False)
    ) as harness:
        harness.send(job_id)
        await jobs.ended(job_id)
    assert items(await jobs.result(job_id)) == expected()


async def test_a_low_job_that_the_service_cannot_continue_keeps_its_place(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    low = await jobs.create(priority="low")
    backend = ScriptedUpstream(Answer((Text("x" * 500),)), can_continue=False, piece=1)
    async with Harness(store, sender, slots=1, backend=backend) as harness:
        harness.send(low)
        await jobs.reached(low, 40)
        await jobs.create(priority="high")
        await asyncio.sleep(0.6)
        await jobs.ended(low)
    assert await jobs.life(low) == [Queued(), Started("w1"), Completed()]
