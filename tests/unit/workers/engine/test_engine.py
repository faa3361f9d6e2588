from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from transformers import PreTrainedModel

from shared.errors import ErrorInfo, RequestError
from shared.events import ChoiceOutput
from shared.job import ResolvedRequest
from shared.sampling import SamplingParams
from tests.models import byte_tokenizer, generate, tiny_model
from workers.engine.detokenizer import TokenBytes
from workers.engine.engine import Engine, EngineOutput
from workers.engine.loader import prepare_model
from workers.engine.model_runner import ModelRunner
from workers.engine.output_builder import OutputBuilder
from workers.engine.sampler import Sampler
from workers.engine.scheduler import Scheduler

TOKENIZER = byte_tokenizer()
TOKEN_BYTES = TokenBytes(TOKENIZER.backend_tokenizer)
#: No token ends a choice, unless a test says so.
NO_STOP: tuple[int, ...] = ()


@pytest.fixture(scope="module")
def plain() -> PreTrainedModel:
    return tiny_model("llama", vocab_size=len(TOKENIZER))


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    prepared = tiny_model("llama", vocab_size=len(TOKENIZER))
    prepare_model(prepared)
    return prepared


def make_output(request: ResolvedRequest, choice: int) -> OutputBuilder:
    return OutputBuilder(TOKEN_BYTES, request, choice)


def make_engine(model: PreTrainedModel, *, max_slots: int = 4, chunk: int = 5) -> Engine:
    return Engine(
        ModelRunner(model, max_slots=max_slots, max_len=256),
        Scheduler(max_slots=max_slots, prefill_chunk=chunk, max_step_tokens=max(32, chunk)),
        Sampler(),
        make_output,
        max_model_len=256,
    )


def prompt(seed: int, length: int = 9) -> tuple[int, ...]:
    chance = random.Random(seed)
    return tuple(chance.randrange(256) for _ in range(length))


def request(
    token_ids: tuple[int, ...],
    *,
    max_tokens: int = 12,
    temperature: float = 0.0,
    seed: int = 1,
    n: int = 1,
    stop_token_ids: tuple[int, ...] = NO_STOP,
) -> ResolvedRequest:
    sampling = SamplingParams(max_tokens=max_tokens, seed=seed, temperature=temperature, n=n)
    return ResolvedRequest(token_ids, sampling, stop_token_ids, "revision")


def run(engine: Engine, max_steps: int = 500) -> list[EngineOutput]:
    outputs: list[EngineOutput] = []
    for _ in range(max_steps):
        if not engine.has_work:
            return outputs
        outputs += engine.step()
    raise AssertionError("the engine does not come to an end")


def choices_of(outputs: Iterable[EngineOutput], request_id: str) -> dict[int, ChoiceOutput]:
    """All that came out for a request, joined by choice."""
    joined: dict[int, ChoiceOutput] = {}
    for output in outputs:
        for choice in output.choices if output.request_id == request_id else ():
            joined[choice.index] = joined[choice.index].joined(choice) if choice.index in joined else choice
    return joined


def drawn(engine: Engine, request_id: str, wanted: ResolvedRequest) -> ChoiceOutput:
    engine.add(request_id, wanted)
    return choices_of(run(engine), request_id)[0]


def test_greedy_tokens_are_those_of_generate(plain: PreTrainedModel, model: PreTrainedModel) -> None:
    output = drawn(make_engine(model), "r", request(prompt(1)))
    assert list(output.token_ids) == generate(plain, list(prompt(1)), 12)
    assert len(set(output.token_ids)) >= 5
    assert output.finish == "length"


@pytest.mark.parametrize("num_neighbours", [1, 31])
def test_neighbours_change_no_drawn_token(model: PreTrainedModel, num_neighbours: int) -> None:
    wanted = request(prompt(1), temperature=1.0, seed=7, max_tokens=20)
    alone = drawn(make_engine(model), "r", wanted)
    assert len(set(alone.token_ids)) >= 5
    engine = make_engine(model, max_slots=32)
    for i in range(num_neighbours):
        other = request(prompt(100 + i, 1 + i), temperature=1.0, seed=i, max_tokens=8 + i % 7)
        engine.add(f"other{i}", other)
        if i == num_neighbours // 2:
            engine.step()
            engine.add("r", wanted)
    assert choices_of(run(engine), "r")[0] == alone
    assert max(engine.stats.batch_sizes) >= (num_neighbours + 3) // 2


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_prompt_read_in_chunks_gives_the_same_tokens(model: PreTrainedModel, chunk: int) -> None:
    wanted = request(prompt(2, 60), temperature=1.0)
    assert drawn(make_engine(model, chunk=chunk), "r", wanted) == drawn(
        make_engine(model, chunk=17), "r", wanted
    )


def test_resumed_request_goes_on_with_the_same_tokens_wherever_it_was_cut(model: PreTrainedModel) -> None:
    wanted = request(prompt(3), temperature=1.0, seed=5)
    whole = drawn(make_engine(model), "r", wanted)
    assert len(set(whole.token_ids)) >= 5
    for cut in range(len(whole.token_ids)):
        before = ChoiceOutput(0, 0, whole.token_ids[:cut], whole.texts[:cut])
        engine = make_engine(model)
        engine.add("r", wanted, (before,))
        assert choices_of(run(engine), "r")[0].token_ids == whole.token_ids[cut:]


def test_choice_that_was_over_is_ended_and_draws_nothing(model: PreTrainedModel) -> None:
    wanted = request(prompt(3), max_tokens=3)
    engine = make_engine(model)
    engine.add("r", wanted, (ChoiceOutput(0, 0, (65, 66, 67), ("A", "B", "C")),))
    assert run(engine) == [EngineOutput("r", (ChoiceOutput(0, 3, (), (), "length"),), is_last=True)]
    assert engine.stats.generated_tokens == 0


def test_request_whose_choices_all_ended_before_leaves_at_once(model: PreTrainedModel) -> None:
    engine = make_engine(model)
    engine.add("r", request(prompt(3), max_tokens=1), (ChoiceOutput(0, 0, (65,), ("A",), "length"),))
    assert run(engine) == [EngineOutput("r", (), is_last=True)]


def test_each_choice_has_draws_of_its_own_and_only_unfinished_ones_run(model: PreTrainedModel) -> None:
    wanted = request(prompt(4), temperature=1.0, n=3)
    engine = make_engine(model)
    engine.add("r", wanted)
    whole = choices_of(run(engine), "r")
    assert len({choice.token_ids for choice in whole.values()}) == 3
    resumed = make_engine(model)
    cut = ChoiceOutput(2, 0, whole[2].token_ids[:4], whole[2].texts[:4])
    resumed.add("r", wanted, (whole[0], cut))
    rest = choices_of(run(resumed), "r")
    assert rest.keys() == {1, 2}
    assert rest[1] == whole[1]
    assert rest[2].token_ids == whole[2].token_ids[4:]


def test_stop_token_ends_a_choice(model: PreTrainedModel) -> None:
    whole = drawn(make_engine(model), "r", request(prompt(1)))
    stop = whole.token_ids[4]
    cut = drawn(make_engine(model), "r", request(prompt(1), stop_token_ids=(stop,)))
    assert cut.token_ids == whole.token_ids[: whole.token_ids.index(stop) + 1]
    assert cut.finish == "stop"


def test_aborted_request_leaves_its_slot_to_the_next(model: PreTrainedModel) -> None:
    engine = make_engine(model, max_slots=1)
    engine.add("first", request(prompt(1), max_tokens=200))
    engine.add("second", request(prompt(2)))
    for _ in range(5):
        engine.step()
    engine.abort("first")
    engine.abort("unknown")
    assert (engine.stats.running, engine.stats.waiting) == (0, 1)
    outputs = run(engine)
    assert {output.request_id for output in outputs} == {"second"}
    assert outputs[-1].is_last


def test_request_that_cannot_fit_is_refused(model: PreTrainedModel) -> None:
    engine = make_engine(model)
    with pytest.raises(RequestError) as caught:
        engine.add("r", request(prompt(1, 250), max_tokens=7))
    assert caught.value.info.code == "context_length_exceeded"
    with pytest.raises(RequestError, match="empty"):
        engine.add("r", request(()))
    assert not engine.has_work


class BrokenOutput(OutputBuilder):
    def push(self, token_id: int) -> ChoiceOutput | None:
        raise ValueError(f"token {token_id}")


def test_request_that_fails_fails_alone(model: PreTrainedModel, caplog: pytest.LogCaptureFixture) -> None:
    broken = request(prompt(9), n=2)
    engine = Engine(
        ModelRunner(model, max_slots=4, max_len=256),
        Scheduler(max_slots=4, prefill_chunk=5, max_step_tokens=32),
        Sampler(),
        lambda r, choice: (BrokenOutput if r is broken else OutputBuilder)(TOKEN_BYTES, r, choice),
        max_model_len=256,
    )
    engine.add("bad", broken)
    engine.add("good", request(prompt(1)))
    outputs = run(engine)
    (failed,) = [output for output in outputs if output.request_id == "bad"]
    assert isinstance(failed.error, ErrorInfo) and failed.error.status == 500
    assert failed.is_last
    assert "ValueError" in caplog.text
    assert choices_of(outputs, "good")[0] == drawn(make_engine(model), "good", request(prompt(1)))


def test_stats_tell_what_was_done_and_that_steps_were_shared(model: PreTrainedModel) -> None:
    engine = make_engine(model)
    for name in ("a", "b"):
        engine.add(name, request(prompt(1, 5), max_tokens=4))
    assert engine.stats.waiting == 2
    run(engine)
    stats = engine.stats
    assert (stats.prompt_tokens, stats.generated_tokens, stats.steps) == (10, 8, 4)
    assert stats.batch_sizes == {2: 4}
    assert stats.mean_batch_size == 2.0
    assert (stats.running, stats.waiting) == (0, 0)
