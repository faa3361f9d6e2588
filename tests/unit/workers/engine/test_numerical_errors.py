"""A model that computes NaN fails the requests concerned, by name, and nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from shared.domain.sampling import SamplingParams
from shared.errors import ErrorInfo
from tests.models import tiny_model
from tests.unit.workers.engine.test_engine import TOKENIZER, choices_of, make_output, prompt, request, run
from workers.engine.cache.slot_cache import KVSpan
from workers.engine.engine import Engine
from workers.engine.loading.loader import prepare_model
from workers.engine.model.kv_form import KVForm, make_budget
from workers.engine.model.runner import ModelRunner
from workers.engine.output import EngineOutput
from workers.engine.resolved_request import ResolvedRequest
from workers.engine.sampling.draw import draw
from workers.engine.sampling.native_draw import draw_natively
from workers.engine.sampling.sampler import Sampler
from workers.engine.scheduling.drafter import Drafter
from workers.engine.scheduling.prefix_cache import PrefixCache
from workers.engine.scheduling.scheduler import Scheduler

#: The embedding of this token is NaN. It is drawn by nobody.
BROKEN = 259
HEALTHY = [prompt(seed, length) for seed, length in ((1, 5), (2, 30), (3, 90))]


@pytest.fixture(scope="module", params=["slots", "torch slots", "pages"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    broken = tiny_model("llama", vocab_size=len(TOKENIZER), tie_word_embeddings=False)
    form: KVForm = "pages" if request.param == "pages" else "slots"
    prepare_model(broken, native="off" if request.param == "torch slots" else "auto", kv_form=form)
    with torch.no_grad():
        broken.get_input_embeddings().weight[BROKEN] = math.nan
    return broken


def engine_of(model: PreTrainedModel, *, max_slots: int = 8, drafts: bool = False) -> Engine:
    budget = make_budget(model, 256)
    prefixes = PrefixCache[KVSpan](1000)
    scheduler = Scheduler(
        max_slots=max_slots, prefill_chunk=70, max_step_tokens=128, kv_budget=budget, prefixes=prefixes
    )
    return Engine(
        ModelRunner(model, budget, prefixes),
        scheduler,
        Sampler(),
        make_output,
        budget,
        prefixes,
        make_drafter=Drafter if drafts else None,
    )


def broken_request(length: int = 9, **changed: Any) -> ResolvedRequest:
    ids = list(prompt(77, length))
    ids[length // 2] = BROKEN
    return request(tuple(ids), **changed)


def error_of(outputs: list[EngineOutput], request_id: str) -> ErrorInfo | None:
    return next(one.error for one in outputs if one.request_id == request_id and one.is_last)


def alone(model: PreTrainedModel, wanted: ResolvedRequest) -> Any:
    engine = engine_of(model)
    engine.add("r", wanted)
    return choices_of(run(engine), "r")


_KINDS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "drawn": {"temperature": 1.0},
    "top_k": {"temperature": 1.0, "top_k": 5},
    "top_p": {"temperature": 1.0, "top_p": 0.9},
    "penalty": {"frequency_penalty": 0.5},
    "allowed": {"allowed_token_ids": tuple(range(100))},
    "logprobs": {"logprobs": 3},
    "prompt": {"prompt_logprobs": 2},
    "choices": {"n": 3, "temperature": 1.0},
}


@pytest.mark.parametrize("kind", _KINDS)
def test_the_request_fails_by_name_and_its_neighbours_go_on(model: PreTrainedModel, kind: str) -> None:
    wanted = [request(ids) for ids in HEALTHY]
    engine = engine_of(model)
    engine.add("broken", broken_request(**_KINDS[kind]))
    for i, one in enumerate(wanted):
        engine.add(f"healthy{i}", one)
    outputs = run(engine)
    error = error_of(outputs, "broken")
    assert error is not None and (error.code, error.status) == ("numerical_error", 500)
    assert choices_of(outputs, "broken") == {}
    for i, one in enumerate(wanted):
        assert error_of(outputs, f"healthy{i}") is None
        assert choices_of(outputs, f"healthy{i}") == alone(model, one)
    assert engine.stats.numerical_errors == 1


@pytest.mark.parametrize("is_cut_short", [False, True])
def test_who_gets_the_slot_afterwards_sees_nothing_of_it(model: PreTrainedModel, is_cut_short: bool) -> None:
    wanted = request(HEALTHY[0])
    expected = alone(model, wanted)
    engine = engine_of(model, max_slots=1)
    engine.add("broken", broken_request(200))
    if is_cut_short:
        for _ in range(2):
            engine.step()
        engine.abort("broken")
    else:
        run(engine)
    engine.add("next", wanted)
    assert choices_of(run(engine), "next") == expected


def test_broken_prefixes_are_not_kept(model: PreTrainedModel) -> None:
    engine = engine_of(model)
    engine.add("broken", broken_request(200), owner="me")
    run(engine)
    assert engine.stats.cache.prefix_tokens == 0


def test_a_guessed_token_is_judged_when_it_is_drawn(model: PreTrainedModel) -> None:
    """After a guess that is not drawn, nothing is known about the logits behind it."""
    repeating = request((5, 6, 7) * 6, max_tokens=30)
    engine = engine_of(model, drafts=True)
    engine.add("r", repeating)
    assert choices_of(run(engine), "r") == alone(model, repeating)
    assert engine.stats.numerical_errors == 0


@pytest.mark.parametrize("draw_function", [draw, draw_natively])
def test_all_rows_of_a_step_may_fail(model: PreTrainedModel, draw_function: Any) -> None:
    engine = engine_of(model)
    engine._sampler._sampler._draw = draw_function
    for i in range(3):
        engine.add(str(i), broken_request(9 + i))
    outputs = run(engine)
    assert {one.error.code for one in outputs if one.error is not None} == {"numerical_error"}
    assert engine.stats.numerical_errors == 3


def test_a_finite_model_counts_nothing(model: PreTrainedModel) -> None:
    engine = engine_of(model)
    engine.add("r", ResolvedRequest((HEALTHY[0],), SamplingParams(max_tokens=4, seed=0), (), "revision"))
    run(engine)
    assert engine.stats.numerical_errors == 0
