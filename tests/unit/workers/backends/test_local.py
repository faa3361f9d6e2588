from __future__ import annotations

import queue
from collections.abc import AsyncIterator, Sequence
from typing import NoReturn

import pytest

from shared.domain.output import ChoiceOutput, Finish
from shared.domain.request import ChatMessage, ChatPrompt, GenerationRequest, SamplingOptions
from shared.domain.usage import Usage
from shared.errors import invalid_request
from tests.scripted_backend import ScriptedEngine, ScriptedOutput, scripted_resolve, scripted_token
from workers.backends.backend import StepOutput
from workers.backends.local import LocalBackend
from workers.engine.resolved_request import ResolvedRequest

WAIT_S = 5


class Driven:
    """A backend, with its outputs and its death as queues."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self.backend = LocalBackend(engine, scripted_resolve, model_revision="r", is_exact=True)
        self.outputs = queue.SimpleQueue[Sequence[StepOutput]]()
        self.deaths = queue.SimpleQueue[BaseException]()
        self.backend.start(self.outputs.put, self.deaths.put)


def request(length: int) -> ResolvedRequest:
    prompt = ChatPrompt((ChatMessage("user", f"count to {length}"),))
    return scripted_resolve(GenerationRequest((prompt,), sampling=SamplingOptions(seed=1)))


@pytest.fixture
async def driven() -> AsyncIterator[Driven]:
    driven = Driven(ScriptedEngine(slots=4))
    yield driven
    await driven.backend.stop()


def test_each_step_hands_out_what_it_made(driven: Driven) -> None:
    driven.backend.add("a", request(2))
    found = [driven.outputs.get(timeout=WAIT_S) for _ in range(2)]
    token = scripted_token(1, 0, 0)
    first = ChoiceOutput(0, 0, (token,), (f"{token} ",))
    assert found[0] == [ScriptedOutput("a", (first,), Usage(prompt=3, completion=1))]
    assert found[1][0].choices[0].finish == Finish("stop")
    assert found[1][0].used == Usage(completion=1)


def test_what_is_past_is_not_drawn_again(driven: Driven) -> None:
    so_far = (ChoiceOutput(0, 0, (1, 2), ("1 ", "2 ")),)
    driven.backend.add("a", request(3), so_far)
    (output,) = driven.outputs.get(timeout=WAIT_S)
    assert (output.choices[0].start, output.choices[0].token_ids) == (2, (scripted_token(1, 0, 2),))


def test_what_is_aborted_comes_out_no_more(driven: Driven) -> None:
    driven.backend.add("a", request(100_000))
    driven.outputs.get(timeout=WAIT_S)
    driven.backend.abort("a")
    driven.backend.abort("unknown")
    driven.backend.add("b", request(1))
    while "b" not in (found := [output.request_id for output in driven.outputs.get(timeout=WAIT_S)]):
        assert found == ["a"]
    assert found == ["b"]


async def test_after_stop_nothing_comes() -> None:
    driven = Driven(ScriptedEngine(slots=4))
    driven.backend.add("a", request(100_000))
    driven.outputs.get(timeout=WAIT_S)
    await driven.backend.stop()
    while not driven.outputs.empty():
        driven.outputs.get()
    driven.backend.add("b", request(1))
    with pytest.raises(queue.Empty):
        driven.outputs.get(timeout=0.05)


async def test_a_request_that_the_engine_refuses_comes_out_as_an_error() -> None:
    class Refusing(ScriptedEngine):
        def add(
            self,
            request_id: str,
            request: ResolvedRequest,
            so_far: tuple[ChoiceOutput, ...] = (),
            *,
            owner: str | None = None,  # noqa: ARG002
        ) -> None:
            if request_id == "bad":
                raise invalid_request("too long", code="context_length_exceeded")
            super().add(request_id, request, so_far)

    driven = Driven(Refusing(slots=4))
    driven.backend.add("bad", request(1))
    (output,) = driven.outputs.get(timeout=WAIT_S)
    assert output.error is not None
    assert (output.request_id, output.error.code) == ("bad", "context_length_exceeded")
    driven.backend.add("good", request(1))
    assert driven.outputs.get(timeout=WAIT_S)[0].request_id == "good"
    await driven.backend.stop()


def test_an_exception_in_a_step_is_its_death() -> None:
    class Failing(ScriptedEngine):
        def step(self) -> NoReturn:
            raise MemoryError

    driven = Driven(Failing(slots=4))
    driven.backend.add("a", request(1))
    assert isinstance(driven.deaths.get(timeout=WAIT_S), MemoryError)


async def test_a_step_that_does_not_end_shows_as_a_stall() -> None:
    begun, go_on = queue.SimpleQueue[None](), queue.SimpleQueue[None]()

    class Stuck(ScriptedEngine):
        def step(self) -> list[ScriptedOutput]:
            begun.put(None)
            go_on.get(timeout=WAIT_S)
            return super().step()

    driven = Driven(Stuck(slots=4))
    assert driven.backend.stalled_s == 0
    driven.backend.add("a", request(1))
    begun.get(timeout=WAIT_S)
    first = driven.backend.stalled_s
    assert 0 < first < driven.backend.stalled_s
    go_on.put(None)
    driven.outputs.get(timeout=WAIT_S)
    await driven.backend.stop()
    assert driven.backend.stats.tokens == 1


async def test_stats_tell_of_the_shared_batch(driven: Driven) -> None:
    driven.backend.add("a", request(50_000))
    driven.backend.add("b", request(50_000))
    while len(driven.outputs.get(timeout=WAIT_S)) < 2:
        pass
    await driven.backend.stop()
    stats = driven.backend.stats
    assert (stats.batch_max, stats.running) == (2, 2)
    assert 1 < stats.batch_mean <= 2
    assert stats.tokens > stats.steps > 0
