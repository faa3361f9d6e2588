"""Reasoning, text and calls, split by one worker and continued by another in the middle of a call."""

from __future__ import annotations

import time

import pytest
from redis.asyncio import Redis

from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.output import ChoiceOutput, Finish
from shared.domain.request import GenerationRequest
from shared.domain.result import Result
from shared.domain.usage import Usage
from shared.store.job_store import JobStore
from tests.hermes_splitter import SPLITTERS
from tests.integration.workers.harness import Harness, Jobs, lose_tail, reap
from tests.pieces import PieceBytes
from tests.scripted_backend import ScriptedEngine, ScriptedOutput, scripted_resolve
from workers.backends.local import LocalBackend
from workers.engine.requests.running_request import RunningRequest
from workers.engine.resolved_request import ResolvedRequest
from workers.engine.scheduling.sequence import Sequence
from workers.engine.text.output_builder import OutputBuilder

CITIES = '{"cities": ["Prague", "Brno", "<tool_call>"], "at": {"day": 1}}'
ANSWER = (
    "<think>Both cities are asked for, so I ask for both.</think>I look it up.\n"
    f'<tool_call>\n{{"name": "weather", "arguments": {CITIES}}}\n</tool_call>'
    "<tool_box> is no call."
)
#: Tokens of three characters.
PIECES = [ANSWER[at : at + 3] for at in range(0, len(ANSWER), 3)]
#: Units that are released once the arguments have begun, some of them or all, and within them.
IN_ARGS = ANSWER.index(CITIES) // 3 + 8
_END = 10_000
_BYTES = PieceBytes(PIECES)


def resolve(request: GenerationRequest) -> ResolvedRequest:
    resolved = scripted_resolve(request)
    return ResolvedRequest(resolved.prompts, resolved.sampling, (_END,), "scripted-1", "hermes@1")


class PartsEngine(ScriptedEngine):
    """Every choice of every request draws the tokens of ANSWER, one a step."""

    def __init__(self, *, slots: int, step_s: float = 0.0) -> None:
        super().__init__(slots=slots, step_s=step_s)
        self._entries: dict[str, RunningRequest] = {}

    @property
    def has_work(self) -> bool:
        return bool(self._entries)

    def add(
        self,
        request_id: str,
        request: ResolvedRequest,
        so_far: tuple[ChoiceOutput, ...] = (),
        *,
        owner: str | None = None,  # noqa: ARG002
    ) -> None:
        self.seen.append(request_id)
        released = {output.index: output for output in so_far}
        entry = RunningRequest(num_prompt_tokens=0 if so_far else request.num_prompt_tokens)
        for choice in range(request.num_choices):
            builder = OutputBuilder(_BYTES, request, choice, SPLITTERS)
            before = released.get(choice)
            num_drawn = before.end if before else 0
            sequence = Sequence(request_id, choice, request.sampling, [0] * num_drawn, 0)
            if before is not None:
                assert builder.replay(before) is None
            entry.outputs[sequence] = builder
        self._entries[request_id] = entry

    def abort(self, request_id: str) -> None:
        self._entries.pop(request_id, None)

    def step(self) -> list[ScriptedOutput]:
        time.sleep(self._step_s)
        for entry in self._entries.values():
            for sequence, builder in list(entry.outputs.items()):
                token_id = sequence.num_tokens if sequence.num_tokens < len(PIECES) else _END
                sequence.token_ids.append(token_id)
                if (output := builder.push(token_id)) is not None:
                    entry.take(output, sequence)
                    if output.finish is not None:
                        del entry.outputs[sequence]
        made = [entry.hand_out(name) for name, entry in self._entries.items() if entry.choices]
        for one in made:
            if one.is_last:
                del self._entries[one.request_id]
        return [ScriptedOutput(one.request_id, one.choices, one.used) for one in made]


def backend() -> LocalBackend:
    engine = PartsEngine(slots=4, step_s=0.002)
    return LocalBackend(engine, resolve, model_revision="scripted-1", is_exact=True)


def items(result: Result, choice: int = 0) -> list[tuple[str, str | None, str]]:
    return [(item.kind, item.name, item.text) for item in result.choices[choice].items]


EXPECTED = [
    ("reasoning", None, "Both cities are asked for, so I ask for both."),
    ("text", None, "I look it up.\n"),
    ("args", "weather", CITIES),
    ("text", None, "<tool_box> is no call."),
]


async def undisturbed(store: JobStore, sender: WakeUpSender, jobs: Jobs) -> Result:
    job_id = await jobs.create(n=2)
    async with Harness(store, sender, backend=backend()) as harness:
        harness.send(job_id)
        await jobs.ended(job_id)
    result = await jobs.result(job_id)
    assert await jobs.read_again(job_id) == result
    return result


async def test_an_answer_in_parts_reaches_the_store(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    result = await undisturbed(store, sender, jobs)
    assert items(result) == items(result, 1) == EXPECTED
    assert [choice.finish for choice in result.choices] == [Finish("stop")] * 2
    assert result.choices[0].position == len(PIECES) + 1
    num_tokens, num_reasoning = 2 * (len(PIECES) + 1), 2 * 16
    assert result.used == Usage(prompt=3, completion=num_tokens, reasoning=num_reasoning)


@pytest.mark.parametrize("position", [1, 10, 30, IN_ARGS, IN_ARGS + 5, len(PIECES) - 12])
@pytest.mark.parametrize("how", ["drained", "killed"])
async def test_another_worker_goes_on_in_the_middle_as_if_nothing_had_been(
    store: JobStore, sender: WakeUpSender, jobs: Jobs, how: str, position: int
) -> None:
    whole = await undisturbed(store, sender, jobs)
    job_id = await jobs.create(n=2)
    async with Harness(store, sender, name="first", backend=backend()) as harness:
        harness.send(job_id)
        await jobs.reached(job_id, 2 * position)
        if how == "killed":
            await reap(store)
    assert not (await jobs.get(job_id)).is_terminal
    async with Harness(store, sender, name="second", backend=backend()) as harness:
        harness.send(job_id)
        await jobs.ended(job_id)
    assert await jobs.result(job_id) == await jobs.read_again(job_id) == whole


@pytest.mark.parametrize("position", [10, 40, IN_ARGS, IN_ARGS + 12])
async def test_a_stream_that_lost_its_end_gets_it_again_with_the_same_parts(
    store: JobStore, redis_client: Redis, sender: WakeUpSender, jobs: Jobs, position: int
) -> None:
    whole = await undisturbed(store, sender, jobs)
    job_id = await jobs.create(n=2)
    async with Harness(store, sender, backend=backend()) as harness:
        harness.send(job_id)
        await jobs.reached(job_id, 2 * position)
        await lose_tail(redis_client, job_id)
        await jobs.ended(job_id)
    assert await jobs.result(job_id) == await jobs.read_again(job_id) == whole
