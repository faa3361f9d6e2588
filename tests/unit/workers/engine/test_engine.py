from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor
from transformers import PreTrainedModel

from shared.domain.output import ChoiceOutput, Finish
from shared.domain.prompt_logprobs import PromptLogprobs, PromptToken
from shared.domain.sampling import SamplingParams
from shared.domain.usage import Usage
from shared.errors import ErrorInfo, RequestError
from tests.models import byte_tokenizer, generate, tiny_model
from tests.unit.workers.engine.sampling_reference import adjusted_logits
from workers.engine.cache.slot_cache import KVSpan
from workers.engine.engine import Engine
from workers.engine.loading.loader import prepare_model
from workers.engine.model.kv_form import make_budget
from workers.engine.model.runner import ModelRunner
from workers.engine.output import EngineOutput
from workers.engine.resolved_request import ResolvedRequest
from workers.engine.sampling.isolating_sampler import IsolatingSampler
from workers.engine.sampling.numerics import NumericalError
from workers.engine.sampling.row import SampleRow
from workers.engine.sampling.sampler import Drawn, Sampler
from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.plan import Plan
from workers.engine.scheduling.prefix_cache import PrefixCache
from workers.engine.scheduling.scheduler import Scheduler
from workers.engine.text.output_builder import OutputBuilder
from workers.engine.token_bytes import TokenBytes

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
        ModelRunner(model, KVBudget(256)),
        Scheduler(max_slots=max_slots, prefill_chunk=chunk, max_step_tokens=max(32, chunk)),
        Sampler(),
        make_output,
        KVBudget(256),
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
    **changed: Any,
) -> ResolvedRequest:
    sampling = SamplingParams(max_tokens=max_tokens, seed=seed, temperature=temperature, n=n, **changed)
    return ResolvedRequest((token_ids,), sampling, stop_token_ids, "revision")


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
    assert list(output.ids) == generate(plain, list(prompt(1)), 12)
    assert len(set(output.ids)) >= 5
    assert output.finish == Finish("length")


@pytest.mark.parametrize("num_neighbours", [1, 31])
def test_neighbours_change_no_drawn_token(model: PreTrainedModel, num_neighbours: int) -> None:
    wanted = request(prompt(1), temperature=1.0, seed=7, max_tokens=20)
    alone = drawn(make_engine(model), "r", wanted)
    assert len(set(alone.ids)) >= 5
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
    assert len(set(whole.ids)) >= 5
    for cut in range(len(whole.ids)):
        before = ChoiceOutput(0, 0, whole.ids[:cut], whole.texts[:cut])
        engine = make_engine(model)
        engine.add("r", wanted, (before,))
        assert choices_of(run(engine), "r")[0].ids == whole.ids[cut:]


def test_choice_that_was_over_is_ended_and_draws_nothing(model: PreTrainedModel) -> None:
    wanted = request(prompt(3), max_tokens=3)
    engine = make_engine(model)
    engine.add("r", wanted, (ChoiceOutput(0, 0, (65, 66, 67), ("A", "B", "C")),))
    assert run(engine) == [EngineOutput("r", (ChoiceOutput(0, 3, (), (), Finish("length")),), is_last=True)]
    assert engine.stats.generated_tokens == 0


def test_request_whose_choices_all_ended_before_leaves_at_once(model: PreTrainedModel) -> None:
    engine = make_engine(model)
    engine.add("r", request(prompt(3), max_tokens=1), (ChoiceOutput(0, 0, (65,), ("A",), Finish("length")),))
    assert run(engine) == [EngineOutput("r", (), is_last=True)]


def test_each_choice_has_draws_of_its_own_and_only_unfinished_ones_run(model: PreTrainedModel) -> None:
    wanted = request(prompt(4), temperature=1.0, n=3)
    engine = make_engine(model)
    engine.add("r", wanted)
    whole = choices_of(run(engine), "r")
    assert len({choice.token_ids for choice in whole.values()}) == 3
    resumed = make_engine(model)
    cut = ChoiceOutput(2, 0, whole[2].ids[:4], whole[2].texts[:4])
    resumed.add("r", wanted, (whole[0], cut))
    rest = choices_of(run(resumed), "r")
    assert rest.keys() == {1, 2}
    assert rest[1] == whole[1]
    assert rest[2].ids == whole[2].ids[4:]


def test_stop_token_ends_a_choice(model: PreTrainedModel) -> None:
    whole = drawn(make_engine(model), "r", request(prompt(1)))
    stop = whole.ids[4]
    cut = drawn(make_engine(model), "r", request(prompt(1), stop_token_ids=(stop,)))
    assert cut.ids == whole.ids[: whole.ids.index(stop) + 1]
    assert cut.finish == Finish("stop")


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


#: What the choices of parametrised tests are drawn with; prompts and outputs repeat tokens enough.
FEATURES: list[dict[str, Any]] = [
    {"repetition_penalty": 1.3},
    {"presence_penalty": 1.5, "frequency_penalty": 0.7},
    {"repetition_penalty": 1.2, "frequency_penalty": -1.0, "logit_bias": ((65, 6.0), (66, -100.0))},
    {"min_tokens": 9, "stop_token_ids": tuple(range(40, 240))},
    {"min_tokens": 5, "stop_token_ids": tuple(range(60, 90)), "presence_penalty": 2.0},
    {"allowed_token_ids": tuple(range(30, 200, 7))},
    {"bad_words": tuple((i,) for i in range(0, 250, 3))},
    {
        "allowed_token_ids": (40, 50, 60),
        "bad_words": ((40, 40), (50, 50), (60, 60), (40, 50, 40)),
        "min_tokens": 3,
    },
]


@torch.inference_mode()
def naive(plain: PreTrainedModel, wanted: ResolvedRequest) -> list[int]:
    """Greedy decoding as one would first write it: the whole sequence again for each token."""
    sampling, output = wanted.sampling, list[int]()
    while len(output) < sampling.max_tokens and not (
        len(output) > sampling.min_tokens and output[-1] in wanted.stop_token_ids
    ):
        token_ids = [*wanted.prompts[0], *output]
        logits = plain(torch.tensor([token_ids])).logits[0, -1].tolist()
        adjusted = adjusted_logits(logits, sampling, wanted.stop_token_ids, wanted.prompts[0], output)
        output.append(int(adjusted.argmax()))
    return output


@pytest.mark.parametrize("features", FEATURES, ids=str)
def test_greedy_tokens_with_every_adjustment_are_those_of_a_naive_loop_wherever_it_was_cut(
    plain: PreTrainedModel, model: PreTrainedModel, features: dict[str, Any]
) -> None:
    wanted = request(prompt(1), max_tokens=24, **features)
    whole = drawn(make_engine(model), "r", wanted)
    assert list(whole.ids) == naive(plain, wanted)
    assert whole.token_ids != drawn(make_engine(model), "r", request(prompt(1), max_tokens=24)).token_ids
    engine = make_engine(model, chunk=16, max_slots=24)
    for cut in range(len(whole.ids)):
        engine.add(str(cut), wanted, (ChoiceOutput(0, 0, whole.ids[:cut], whole.texts[:cut]),))
    outputs = run(engine)
    for cut in range(len(whole.ids)):
        assert choices_of(outputs, str(cut))[0].ids == whole.ids[cut:]


def test_each_choice_has_penalties_of_its_own(model: PreTrainedModel) -> None:
    """A choice is the same whether others, which draw other tokens, are there or not."""
    wanted = request(prompt(4), temperature=1.5, n=3, max_tokens=20, frequency_penalty=2.0)
    engine = make_engine(model)
    engine.add("r", wanted)
    whole = choices_of(run(engine), "r")
    assert len({choice.token_ids for choice in whole.values()}) == 3
    for index in whole:
        alone = make_engine(model)
        alone.add("r", wanted, tuple(whole[other] for other in whole if other != index))
        assert choices_of(run(alone), "r") == {index: whole[index]}


def test_neighbours_with_other_parameters_change_nothing(model: PreTrainedModel) -> None:
    wanted = [
        request(prompt(i), temperature=i % 3 * 0.7, top_k=[None, 7][i % 2], logprobs=[None, 2][i % 2], **one)
        for i, one in enumerate(FEATURES * 2)
    ]
    alone = [drawn(make_engine(model), "r", one) for one in wanted]
    engine = make_engine(model, max_slots=8)
    for i, one in enumerate(wanted):
        engine.add(str(i), one)
    outputs = run(engine)
    assert [choices_of(outputs, str(i))[0] for i in range(len(wanted))] == alone


def test_log_probabilities_are_the_models_and_are_not_repeated_after_a_resume(
    plain: PreTrainedModel, model: PreTrainedModel
) -> None:
    wanted = request(prompt(3), temperature=1.0, seed=5, logprobs=3, presence_penalty=1.0)
    whole = drawn(make_engine(model), "r", wanted)
    assert whole.logprobs is not None and len(whole.logprobs) == 12
    token_ids = torch.tensor([[*prompt(3), *whole.ids]])
    exact = plain(token_ids).logits[0, 8:-1].detach().log_softmax(-1)
    for token_id, scored, row in zip(whole.ids, whole.logprobs, exact, strict=True):
        assert scored.chosen.token_id == token_id
        assert scored.chosen.logprob == pytest.approx(float(row[token_id]), abs=1e-3)
        assert [one.token_id for one in scored.top] == row.topk(3).indices.tolist()
    for cut in range(12):
        engine = make_engine(model)
        engine.add("r", wanted, (ChoiceOutput(0, 0, whole.ids[:cut], whole.texts[:cut]),))
        assert choices_of(run(engine), "r")[0].logprobs == whole.logprobs[cut:]


@pytest.mark.parametrize(
    "features",
    [
        {"logit_bias": ((260, 1.0),)},
        {"logit_bias": ((-1, 1.0),)},
        {"stop_token_ids": (260,)},
        {"stop_token_ids": (-5,), "min_tokens": 3},
        {"allowed_token_ids": (3, 260)},
        {"bad_words": ((3,), (3, -1))},
    ],
    ids=str,
)
def test_ids_beyond_the_vocabulary_are_refused_and_a_neighbour_goes_on(
    model: PreTrainedModel, features: dict[str, Any]
) -> None:
    engine = make_engine(model)
    engine.add("good", request(prompt(1)))
    engine.step()
    with pytest.raises(RequestError, match="token ids are 0 to 259"):
        engine.add("bad", request(prompt(2), **features))
    assert choices_of(run(engine), "good")[0] == drawn(make_engine(model), "r", request(prompt(1)))


@pytest.mark.parametrize("num", [1, 3])
def test_requests_whose_lists_leave_no_token_fail_by_name_and_others_go_on(
    model: PreTrainedModel, num: int
) -> None:
    """All rows of a step may be such: that is no fault of the step's."""
    stuck = request(prompt(3), allowed_token_ids=(7, 8), bad_words=((7, 7), (7, 8), (8, 7), (8, 8)), n=2)
    engine = make_engine(model)
    for i in range(num):
        engine.add(f"stuck {i}", stuck)
    outputs = run(engine)
    assert [output.is_last for output in outputs if output.error] == [True] * num
    assert {output.error.code for output in outputs if output.error} == {"no_token_left"}
    assert {choice.end for choice in choices_of(outputs, "stuck 0").values()} == {1}
    engine.add("stuck", stuck)
    good = drawn(engine, "good", request(prompt(1)))
    assert good == drawn(make_engine(model), "r", request(prompt(1)))


class BrokenOutput(OutputBuilder):
    def push(self, token_id: int, *_: object, **__: object) -> ChoiceOutput | None:
        raise ValueError(f"token {token_id}")


def test_request_that_fails_fails_alone(model: PreTrainedModel, caplog: pytest.LogCaptureFixture) -> None:
    broken = request(prompt(9), n=2)
    engine = Engine(
        ModelRunner(model, KVBudget(256)),
        Scheduler(max_slots=4, prefill_chunk=5, max_step_tokens=32),
        Sampler(),
        lambda r, choice: (BrokenOutput if r is broken else OutputBuilder)(TOKEN_BYTES, r, choice),
        KVBudget(256),
    )
    engine.add("bad", broken)
    engine.add("good", request(prompt(1)))
    outputs = run(engine)
    (failed,) = [output for output in outputs if output.request_id == "bad"]
    assert isinstance(failed.error, ErrorInfo) and failed.error.status == 500
    assert failed.is_last
    assert "ValueError" in caplog.text
    assert choices_of(outputs, "good")[0] == drawn(make_engine(model), "good", request(prompt(1)))


class BrokenSampler(Sampler):
    """Fails where `fails` says so of the rows that it is given."""

    def __init__(self, fails: Callable[[Sequence[SampleRow]], bool]) -> None:
        super().__init__()
        self._fails = fails

    def sample(self, logits: Tensor, rows: Sequence[SampleRow]) -> list[Drawn | NumericalError]:
        if self._fails(rows):
            raise RuntimeError("nothing to draw from")
        return super().sample(logits, rows)


def sampling_badly(model: PreTrainedModel, fails: Callable[[Sequence[SampleRow]], bool]) -> Engine:
    engine = make_engine(model)
    engine._sampler = IsolatingSampler(BrokenSampler(fails))
    return engine


def test_a_row_that_cannot_be_drawn_ends_its_request_alone(model: PreTrainedModel) -> None:
    good, bad = request(prompt(1), temperature=1.0, seed=7), request(prompt(2), seed=666, n=2)
    engine = sampling_badly(
        model, lambda rows: any(row.sampling.seed == 666 and row.position >= 3 for row in rows)
    )
    engine.add("bad", bad)
    engine.add("good", good)
    outputs = run(engine)
    assert choices_of(outputs, "good")[0] == drawn(make_engine(model), "r", good)
    last = [output for output in outputs if output.request_id == "bad"][-1]
    assert last.is_last and last.error is not None and last.error.code == "engine_error"
    assert all(choice.end <= 3 for choice in choices_of(outputs, "bad").values())
    assert engine.stats.running == 0


@pytest.mark.parametrize(
    "fails", [lambda _: True, lambda rows: len(rows) > 1], ids=["each of several rows", "rows together alone"]
)
def test_what_is_no_single_rows_fault_ends_the_step(
    model: PreTrainedModel, fails: Callable[[Sequence[SampleRow]], bool]
) -> None:
    engine = sampling_badly(model, fails)
    for name in ("a", "b"):
        engine.add(name, request(prompt(1, 5)))
    with pytest.raises(RuntimeError, match="nothing to draw from"):
        run(engine)


class BrokenReplay(OutputBuilder):
    def replay(self, so_far: ChoiceOutput, **_: object) -> ChoiceOutput | None:
        raise ValueError(f"{so_far.index} is not read")


class OutOfMemoryOutput(OutputBuilder):
    def push(self, token_id: int, *_: object, **__: object) -> ChoiceOutput | None:
        raise MemoryError(f"no room for {token_id}")


def engine_with(model: PreTrainedModel, broken: ResolvedRequest, kind: type[OutputBuilder]) -> Engine:
    return Engine(
        ModelRunner(model, KVBudget(256)),
        Scheduler(max_slots=4, prefill_chunk=5, max_step_tokens=32),
        Sampler(),
        lambda r, choice: (kind if r is broken else OutputBuilder)(TOKEN_BYTES, r, choice),
        KVBudget(256),
    )


def test_request_that_cannot_be_continued_is_refused_and_others_go_on(model: PreTrainedModel) -> None:
    broken = request(prompt(9))
    engine = engine_with(model, broken, BrokenReplay)
    engine.add("good", request(prompt(1)))
    with pytest.raises(RequestError) as caught:
        engine.add("bad", broken, (ChoiceOutput(0, 0, (5,), ("a",)),))
    assert (caught.value.info.code, caught.value.info.status) == ("engine_error", 500)
    assert choices_of(run(engine), "good")[0] == drawn(make_engine(model), "good", request(prompt(1)))
    assert not engine.has_work


def test_running_out_of_memory_is_no_fault_of_one_request(model: PreTrainedModel) -> None:
    broken = request(prompt(9))
    engine = engine_with(model, broken, OutOfMemoryOutput)
    engine.add("r", broken)
    with pytest.raises(MemoryError):
        run(engine)


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


def test_memory_that_runs_out_changes_no_token_and_is_never_exceeded() -> None:
    """Sequences outgrow their slots; those for which there is no memory then are read again later."""
    long = tiny_model("llama", vocab_size=len(TOKENIZER), max_position_embeddings=1024)
    prepare_model(long)
    wanted = [request(prompt(i, 500), max_tokens=20, temperature=1.0, seed=i) for i in range(4)]

    def engine_with(max_kv_tokens: int | None) -> Engine:
        budget = KVBudget(1024, max_kv_tokens)
        scheduler = Scheduler(max_slots=4, prefill_chunk=128, max_step_tokens=256, kv_budget=budget)
        return Engine(ModelRunner(long, budget), scheduler, Sampler(), make_output, budget)

    ample, short = engine_with(None), engine_with(2048)
    for i, one in enumerate(wanted):
        short.add(str(i), one)
    outputs = []
    while short.has_work:
        outputs += short.step()
        assert short.stats.cache.kv_tokens <= 2048
    assert short.stats.cache.preempted >= 2
    assert [choices_of(outputs, str(i))[0] for i in range(4)] == [drawn(ample, "r", one) for one in wanted]
    with pytest.raises(RequestError, match="1024 tokens"):
        engine_with(1024).add("r", request(prompt(1, 1020), max_tokens=9))
    with pytest.raises(RequestError, match="512 tokens"):
        engine_with(1023).add("r", request(prompt(1, 500), max_tokens=100))


def test_pages_that_run_out_and_beginnings_that_are_copied_change_no_token() -> None:
    """Four sequences that need two pages each, where there are five, and with beginnings known before."""
    paged = tiny_model("llama", vocab_size=len(TOKENIZER))
    inputs = [(*prompt(0, 130), *prompt(i, 90)) for i in range(4)]
    expected = [generate(paged, list(each), 60) for each in inputs]
    prepare_model(paged, kv_form="pages")
    budget, prefixes = make_budget(paged, 512, 5 * 256), PrefixCache[KVSpan](2048)
    scheduler = Scheduler(
        max_slots=4, prefill_chunk=70, max_step_tokens=80, kv_budget=budget, prefixes=prefixes
    )
    engine = Engine(ModelRunner(paged, budget, prefixes), scheduler, Sampler(), make_output, budget, prefixes)
    outputs = []
    for i, each in enumerate(inputs):
        engine.add(str(i), request(each, max_tokens=60), owner="ann")
        outputs += [*engine.step(), *engine.step()]
    while engine.has_work:
        outputs += engine.step()
        assert engine.stats.cache.kv_tokens <= 5 * 256
    assert [list(choices_of(outputs, str(i))[0].ids) for i in range(4)] == expected
    assert engine.stats.cache.preempted >= 1
    assert engine.stats.cache.saved_tokens >= 3 * 128


def remembering(model: PreTrainedModel, *, chunk: int = 32) -> Engine:
    """An engine with a prefix cache."""
    budget, prefixes = KVBudget(512), PrefixCache[KVSpan](2048)
    return Engine(
        ModelRunner(model, budget, prefixes),
        Scheduler(max_slots=4, prefill_chunk=chunk, max_step_tokens=64, kv_budget=budget, prefixes=prefixes),
        Sampler(),
        make_output,
        budget,
        prefixes,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("model_type", ["llama", "gemma2", "gpt2"])
def test_copied_beginning_changes_no_bit_of_what_follows(model_type: str, dtype: torch.dtype) -> None:
    prepared = tiny_model(model_type, vocab_size=len(TOKENIZER)).to(dtype)
    if not prepare_model(prepared).is_exact:
        pytest.skip("it says that it is not exact")
    asked = request(prompt(1, 150), temperature=1.0, seed=3, logprobs=2, max_tokens=30)
    engine = remembering(prepared)
    engine.add("first", asked, owner="ann")
    first = choices_of(run(engine), "first")[0]
    history = (*asked.prompts[0], *first.ids, *prompt(2, 40))
    second = request(history, temperature=1.0, seed=4, logprobs=2, max_tokens=30)
    expected = drawn(make_engine(prepared, chunk=50), "r", second)
    computed = engine.stats.prompt_tokens
    engine.add("second", second, owner="ann")
    assert choices_of(run(engine), "second")[0] == expected
    assert engine.stats.prompt_tokens - computed == len(history) - 128
    engine.add("third", second, owner="bob")
    engine.add("fourth", second)
    outputs = run(engine)
    assert [choices_of(outputs, name)[0] for name in ("third", "fourth")] == [expected] * 2
    reading = engine.stats.cache
    assert (reading.prefix_hits, reading.prefix_misses, reading.saved_tokens) == (1, 2, 128)


def test_request_that_comes_back_is_not_computed_again(model: PreTrainedModel) -> None:
    wanted = request(prompt(5, 100), max_tokens=80, temperature=1.0)
    whole = drawn(make_engine(model), "r", wanted)
    engine = remembering(model)
    engine.add("r", wanted, owner="ann")
    for _ in range(50):
        engine.step()
    engine.abort("r")
    engine.add("r", wanted, (ChoiceOutput(0, 0, whole.ids[:40], whole.texts[:40]),), owner="ann")
    assert choices_of(run(engine), "r")[0].ids == whole.ids[40:]
    assert engine.stats.cache.saved_tokens == 128


def test_choices_of_one_request_read_its_prompt_once(model: PreTrainedModel) -> None:
    wanted = request(prompt(6, 200), n=3, temperature=1.0)
    plain = make_engine(model)
    plain.add("r", wanted)
    engine = remembering(model)
    engine.add("r", wanted, owner="ann")
    engine.add("other", request(prompt(7, 5)), owner="ann")
    engine.step()
    assert engine.stats.running == 2  # the first choice, and who came after the others
    assert choices_of(run(engine), "r") == choices_of(run(plain), "r")
    assert engine.stats.prompt_tokens == 200 + 2 * (200 - 192) + 5


def batch(*prompts: tuple[int, ...], **changed: Any) -> ResolvedRequest:
    """A request with several prompts."""
    return replace(request(prompts[0], **changed), prompts=prompts)


def test_choices_continue_their_own_prompts(model: PreTrainedModel) -> None:
    prompts = prompt(1), prompt(2, 70), prompt(3, 30)
    engine = remembering(model)
    engine.add("r", batch(*prompts, n=2), owner="ann")
    found = choices_of(run(engine), "r")
    expected = [drawn(make_engine(model), "r", request(one)) for one in prompts]
    assert [found[choice].ids for choice in range(6)] == [one.ids for one in expected for _ in range(2)]
    # Each prompt is read once: the second choices copy its spans.
    assert engine.stats.prompt_tokens == (9 + 9) + (70 + 70 - 64) + (30 + 30)


def test_a_batch_goes_on_with_the_same_tokens_wherever_it_was_cut(model: PreTrainedModel) -> None:
    wanted = batch(prompt(1), prompt(2, 20), n=2, temperature=1.0)
    engine = make_engine(model)
    engine.add("r", wanted)
    whole = choices_of(run(engine), "r")
    assert len({choice.ids for choice in whole.values()}) == 4
    for cut in range(12):
        so_far = tuple(
            ChoiceOutput(index, 0, whole[index].ids[:num], whole[index].texts[:num])
            for index, num in ((1, cut), (2, 3))
            if num
        )
        engine = make_engine(model)
        engine.add("r", wanted, so_far)
        rest = choices_of(run(engine), "r")
        assert rest[1].ids == whole[1].ids[cut:] and rest[2].ids == whole[2].ids[3:]
        assert (rest[0], rest[3]) == (whole[0], whole[3])


def test_the_first_choice_of_each_prompt_has_its_prompt_logprobs(model: PreTrainedModel) -> None:
    engine = make_engine(model)
    engine.add("r", batch(prompt(1, 30), prompt(2, 20), n=2, prompt_logprobs=1))
    found = choices_of(run(engine), "r")
    scored = [found[choice].prompt_logprobs for choice in range(4)]
    assert scored[1] is None and scored[3] is None
    assert [scored[0], scored[2]] == [
        alone(make_engine(model), request(one, prompt_logprobs=1)) for one in (prompt(1, 30), prompt(2, 20))
    ]


def used_by(outputs: Iterable[EngineOutput]) -> Usage:
    total = Usage()
    for output in outputs:
        total = total.plus(output.used)
    return total


def test_usage_counts_each_prompt_once_and_what_was_cached_of_it(model: PreTrainedModel) -> None:
    engine = remembering(model)
    wanted = batch(prompt(1, 100), prompt(2, 150), n=2, max_tokens=5)
    for cached in (0, 64 + 128):
        engine.add("r", wanted, owner="ann")
        outputs = run(engine)
        assert used_by(outputs) == Usage(prompt=250, completion=20, cached=cached)
        assert outputs[0].used.prompt == 250


def test_usage_does_not_count_again_what_was_released(model: PreTrainedModel) -> None:
    wanted = batch(prompt(1, 100), prompt(2, 150), max_tokens=5)
    engine = remembering(model)
    engine.add("r", wanted, owner="ann")
    whole = choices_of(run(engine), "r")
    so_far = (ChoiceOutput(0, 0, whole[0].ids[:2], whole[0].texts[:2]),)
    engine.add("r", wanted, so_far, owner="ann")
    # The first prompt was counted with its first token, what was cached of the second one is not known yet.
    assert used_by(run(engine)) == Usage(prompt=0, completion=8, cached=128)


def prompt_logprobs_of(outputs: Iterable[EngineOutput], request_id: str) -> PromptLogprobs:
    """Return the log probabilities of a request's prompt, released once, with the first choice's first token."""
    (found,) = [
        (choice.index, choice.start, choice.prompt_logprobs)
        for output in outputs
        for choice in (output.choices if output.request_id == request_id else ())
        if choice.prompt_logprobs is not None
    ]
    assert found[:2] == (0, 0)
    return found[2]


def alone(engine: Engine, wanted: ResolvedRequest, *, owner: str | None = None) -> PromptLogprobs:
    engine.add("alone", wanted, owner=owner)
    return prompt_logprobs_of(run(engine), "alone")


@torch.inference_mode()
def test_prompt_logprobs_are_those_of_the_models_own_forward(model: PreTrainedModel) -> None:
    token_ids = prompt(3, 60)
    wanted = request(token_ids, prompt_logprobs=3, temperature=1.0, presence_penalty=1.0)
    scored = alone(make_engine(model), wanted)
    plain = tiny_model("llama", vocab_size=len(TOKENIZER)).double()
    exact = plain(torch.tensor([token_ids])).logits[0].log_softmax(-1)
    assert [one.token_id for one in scored.tokens] == list(token_ids[1:])
    for one, row in zip(scored.tokens, exact, strict=False):
        assert one.logprob == pytest.approx(float(row[one.token_id]), abs=1e-5)
        assert one.rank == 1 + int((row > row[one.token_id]).sum())
        assert [value for _, value in one.top] == pytest.approx(row.topk(3).values.tolist(), abs=1e-5)
        assert [token_id for token_id, _ in one.top] == row.topk(3).indices.tolist()
    assert scored.texts.keys() >= set(token_ids[1:]) and len({one.rank for one in scored.tokens}) > 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_prompt_logprobs_are_the_same_in_chunks_whole_and_beside_others(dtype: torch.dtype) -> None:
    prepared = tiny_model("llama", vocab_size=len(TOKENIZER)).to(dtype)
    assert prepare_model(prepared).is_exact
    wanted = request(prompt(3, 90), prompt_logprobs=2, temperature=1.0)
    whole = alone(make_engine(prepared, chunk=100), wanted)
    assert len(whole.tokens) == 89
    for chunk in (1, 4, 17):
        assert alone(make_engine(prepared, chunk=chunk), wanted) == whole
    engine = make_engine(prepared, max_slots=8, chunk=13)
    for i in range(6):
        other = request(prompt(50 + i, 5 + 9 * i), prompt_logprobs=[None, 5][i % 2], temperature=1.0)
        engine.add(f"other{i}", other)
        engine.step()
    engine.add("r", wanted)
    outputs = run(engine)
    assert prompt_logprobs_of(outputs, "r") == whole


def test_prompt_logprobs_change_no_token_of_their_request_and_its_neighbours(model: PreTrainedModel) -> None:
    asked = [request(prompt(i, 30), temperature=1.0, seed=i, logprobs=1) for i in range(3)]
    expected = [drawn(make_engine(model), "r", one) for one in asked]
    engine = make_engine(model)
    for i, one in enumerate(asked):
        sampling = replace(one.sampling, prompt_logprobs=1 if i == 1 else None)
        engine.add(str(i), replace(one, sampling=sampling))
    outputs = run(engine)
    found = [replace(choices_of(outputs, str(i))[0], prompt_logprobs=None) for i in range(3)]
    assert found == expected


@pytest.mark.parametrize("num_released", [0, 1, 5])
def test_prompt_logprobs_are_repeated_only_if_no_token_was_released(
    model: PreTrainedModel, num_released: int
) -> None:
    """The same bits then, whatever the worker before had computed."""
    wanted = request(prompt(3, 40), prompt_logprobs=4, temperature=1.0, n=2)
    first = make_engine(model)
    first.add("r", wanted)
    outputs = run(first)
    whole, scored = choices_of(outputs, "r"), prompt_logprobs_of(outputs, "r")
    engine = make_engine(model, chunk=9)
    released = [
        ChoiceOutput(0, 0, whole[0].ids[:num_released], whole[0].texts[:num_released]),
        ChoiceOutput(1, 0, whole[1].ids[:3], whole[1].texts[:3]),
    ]
    engine.add("r", wanted, tuple(one for one in released if one.token_ids))
    found = choices_of(run(engine), "r")
    assert found[0].ids == whole[0].ids[num_released:]
    assert found[0].prompt_logprobs == (scored if num_released == 0 else None)
    assert found[1].prompt_logprobs is None


def test_prompt_logprobs_of_a_known_prompt_are_those_of_a_new_one(model: PreTrainedModel) -> None:
    wanted = request(prompt(5, 150), prompt_logprobs=2)
    engine = remembering(model)
    first = alone(engine, wanted, owner="ann")
    assert len(first.tokens) == 149
    assert alone(engine, wanted, owner="ann") == first
    assert engine.stats.cache.saved_tokens == 0
    engine.add("plain", request(prompt(5, 150)), owner="ann")
    run(engine)
    assert engine.stats.cache.saved_tokens == 128  # what they computed is there for those who do not ask


class CountingRunner(ModelRunner):
    """Knows how many rows of logits each step made."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.num_logits: list[int] = []

    def run(self, plan: Plan) -> Tensor:
        logits = super().run(plan)
        self.num_logits.append(len(logits))
        return logits


def counting(model: PreTrainedModel) -> tuple[Engine, CountingRunner]:
    engine = remembering(model, chunk=16)
    runner = engine._runner = CountingRunner(model, KVBudget(512), engine._prefixes)
    return engine, runner


def test_logits_of_a_prompt_are_computed_by_chunk_and_only_if_requested(
    model: PreTrainedModel,
) -> None:
    engine, runner = counting(model)
    engine.add("r", request(prompt(5, 100), prompt_logprobs=0, max_tokens=3))
    run(engine)
    assert runner.num_logits == [16] * 6 + [4, 1, 1]
    engine, runner = counting(model)
    engine.add("r", request(prompt(5, 100), max_tokens=3))
    run(engine)
    assert runner.num_logits == [0] * 6 + [1, 1, 1]
    engine, runner = counting(model)
    so_far = ChoiceOutput(0, 0, (65,), ("A",))
    engine.add("r", request(prompt(5, 100), prompt_logprobs=0, max_tokens=3), (so_far,))
    run(engine)
    assert runner.num_logits == [0] * 6 + [1, 1]


def test_several_choices_tell_their_prompt_once(model: PreTrainedModel) -> None:
    engine, runner = counting(model)
    engine.add("r", request(prompt(5, 100), prompt_logprobs=1, n=3, max_tokens=2), owner="ann")
    scored = prompt_logprobs_of(run(engine), "r")
    assert len(scored.tokens) == 99
    assert sum(runner.num_logits) == 99 + 3 * 2


def test_prompt_logprobs_are_returned_once_after_a_preemption() -> None:
    long = tiny_model("llama", vocab_size=len(TOKENIZER), max_position_embeddings=1024)
    prepare_model(long)
    wanted = [request(prompt(i, 500), max_tokens=20, prompt_logprobs=1) for i in range(3)]

    def engine_with(max_kv_tokens: int | None) -> Engine:
        budget = KVBudget(1024, max_kv_tokens)
        scheduler = Scheduler(max_slots=3, prefill_chunk=100, max_step_tokens=150, kv_budget=budget)
        return Engine(ModelRunner(long, budget), scheduler, Sampler(), make_output, budget)

    short = engine_with(1536)
    for i, one in enumerate(wanted):
        short.add(str(i), one)
    outputs = run(short)
    assert short.stats.cache.preempted >= 1
    ample = engine_with(None)
    assert [prompt_logprobs_of(outputs, str(i)) for i in range(3)] == [alone(ample, one) for one in wanted]


class BrokenReading(OutputBuilder):
    def read_prompt(self, tokens: Sequence[PromptToken]) -> None:
        raise ValueError(f"{len(tokens)} tokens")


def test_an_error_in_prompt_logprobs_ends_only_its_request(model: PreTrainedModel) -> None:
    broken = request(prompt(9, 30), prompt_logprobs=1, n=2)
    engine = engine_with(model, broken, BrokenReading)
    engine.add("good", request(prompt(1)))
    engine.add("bad", broken)
    outputs = run(engine)
    (failed,) = [output for output in outputs if output.request_id == "bad"]
    assert failed.is_last and failed.error is not None and failed.error.code == "engine_error"
    assert choices_of(outputs, "good")[0] == drawn(make_engine(model), "good", request(prompt(1)))
    assert engine.stats.running == 0
