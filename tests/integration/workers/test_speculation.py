"""Drafted tokens change no answer, with every feature and every drafter."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.domain.output import ChoiceOutput
from shared.domain.sampling import SamplingParams
from tests.features import NAMES, PLAIN, features
from tests.integration.workers.lone_worker import LoneWorker
from tests.tiny_chat_model import make_tiny_chat_model
from workers.engine.build import make_engine
from workers.engine.config import EngineConfig
from workers.engine.loading.loader import load_model
from workers.engine.resolved_request import ResolvedRequest
from workers.engine.scheduling.drafter import Drafter

#: Continuations that share the batch: so few that there is room for guesses.
NUM_TOGETHER = 4


class Foreseer(Drafter):
    """Knows how sequences go on, and says so of every token with this likelihood, elsewhere a lie."""

    def __init__(self, known: list[list[int]], likelihood: float, chance: random.Random) -> None:
        super().__init__()
        self._known = known
        self._likelihood = likelihood
        self._chance = chance

    def draft(self, token_ids: list[int], most: int, least_chance: float) -> tuple[int, ...]:  # noqa: ARG002
        num = len(token_ids)
        following = next((one[num:] for one in self._known if one[:num] == token_ids), [])
        draft = following[: min(most, 8)]
        return tuple(token if self._is_honest() else self._chance.randrange(256) for token in draft)

    def _is_honest(self) -> bool:
        return self._chance.random() < self._likelihood


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoneWorker, LoneWorker]:
    """One that guesses and one that does not."""
    directory = make_tiny_chat_model(tmp_path_factory.mktemp("model") / "tiny")
    return LoneWorker.start(directory), LoneWorker.start(directory, "off")


@pytest.fixture(scope="module")
def asked(workers: tuple[LoneWorker, LoneWorker]) -> dict[str, ResolvedRequest]:
    """The request of each feature."""
    _, plain = workers
    plain.add("plain", plain.resolve(PLAIN))
    plain.run()
    bodies: dict[str, dict[str, Any]] = features(plain.answer("plain", 1)[0].text)
    return {name: plain.resolve(body) for name, body in bodies.items()}


@pytest.fixture(scope="module")
def expected(
    workers: tuple[LoneWorker, LoneWorker], asked: dict[str, ResolvedRequest]
) -> dict[str, tuple[ChoiceOutput, ...]]:
    """The answer to each feature, where nobody guesses."""
    return {name: whole(workers[1], request) for name, request in asked.items()}


def whole(worker: LoneWorker, request: ResolvedRequest) -> tuple[ChoiceOutput, ...]:
    """The answer of each choice."""
    worker.add("whole", request)
    worker.run()
    return worker.answer("whole", request.num_choices)


def resumed(worker: LoneWorker, request: ResolvedRequest) -> dict[str, tuple[ChoiceOutput, ...]]:
    """The same from every third of its outputs on, by the cut."""
    released = list(worker.released["whole"])
    cuts = {str(cut): released[:cut] for cut in range(1, len(released), 3)}
    for number, (name, so_far) in enumerate(cuts.items(), start=1):
        worker.add(name, request, so_far)
        if number % NUM_TOGETHER == 0 or number == len(cuts):
            worker.run()
    return {name: worker.answer(name, request.num_choices) for name in cuts}


@pytest.mark.parametrize("likelihood", [1.0, 0.7, 0.0], ids=["always right", "often right", "never right"])
@pytest.mark.parametrize("name", NAMES)
def test_an_answer_is_the_same_with_every_drafter(
    workers: tuple[LoneWorker, LoneWorker],
    asked: dict[str, ResolvedRequest],
    expected: dict[str, tuple[ChoiceOutput, ...]],
    name: str,
    likelihood: float,
) -> None:
    guessing, _ = workers
    request, answer, chance = asked[name], expected[name], random.Random(name)
    known = [[*request.prompts[0], *choice.ids] for choice in answer]
    guessing.engine._sequences._make_drafter = lambda: Foreseer(known, likelihood, chance)
    before = guessing.engine.stats
    assert whole(guessing, request) == answer
    after = guessing.engine.stats
    drafted = after.drafted_tokens - before.drafted_tokens
    accepted = after.accepted_tokens - before.accepted_tokens
    assert drafted > 0 or max(len(choice.ids) for choice in answer) < 4
    if likelihood == 1.0 and request.sampling.n == 1:  # choices may begin alike
        assert accepted == drafted
    for cut, found in resumed(guessing, request).items():
        assert found == answer, cut


def test_a_text_that_repeats_itself_is_drawn_in_fewer_steps(workers: tuple[LoneWorker, LoneWorker]) -> None:
    guessing, plain = workers
    guessing.engine._sequences._make_drafter = Drafter
    request = guessing.resolve({"temperature": 0, "max_tokens": 60, "logit_bias": {"20": 100}})
    before, steps_before = guessing.engine.stats, plain.engine.stats.steps
    expected = whole(plain, request)
    assert whole(guessing, request) == expected
    after, steps_after = guessing.engine.stats, plain.engine.stats.steps
    assert after.generated_tokens - before.generated_tokens == 60
    saved = (steps_after - steps_before) - (after.steps - before.steps)
    assert saved == after.accepted_tokens - before.accepted_tokens > 40


def test_speculation_is_off_if_disabled_or_if_it_may_change_an_answer(tmp_path: Path) -> None:
    config = EngineConfig(str(make_tiny_chat_model(tmp_path / "tiny")), dtype="float32", threads=1)
    loaded = load_model(config)
    sampling = SamplingParams(max_tokens=9, seed=0, logit_bias=((5, 100.0),))
    off = make_engine(loaded, replace(config, speculation="off"))
    inexact = make_engine(replace(loaded, is_exact=False), config)
    for engine, guesses in ((make_engine(loaded, config), True), (off, False), (inexact, False)):
        engine.add("r", ResolvedRequest(((5, 5, 5, 5),), sampling, (), "revision"))
        while engine.has_work:
            engine.step()
        assert bool(engine.stats.drafted_tokens) is guesses
