"""Pool: requests of every kind, each with the answer that it gets when it runs alone."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from shared.domain.output import ChoiceOutput
from shared.domain.sampling import SamplingParams
from workers.engine.engine import Engine
from workers.engine.output import EngineOutput
from workers.engine.resolved_request import ResolvedRequest

_PARAMS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0},
    {"temperature": 0.7},
    {"top_p": 0.6},
    {"top_k": 5},
    {"min_p": 0.2},
    {"repetition_penalty": 1.5},
    {"presence_penalty": 1.0, "frequency_penalty": 0.5},
    {"logit_bias": ((20, 5.0), (40, -100.0))},
    {"logprobs": 3},
    {"prompt_logprobs": 2},
)
#: Owners. Prefixes are shared only between requests of the same owner.
_OWNERS = (None, "a", "b")


@dataclass(frozen=True, slots=True)
class Known:
    """A request and its complete answer, by choice."""

    request: ResolvedRequest
    owner: str | None
    answer: dict[int, ChoiceOutput]

    def up_to(self, chance: random.Random) -> tuple[ChoiceOutput, ...]:
        """A part of the answer that another worker may have released: each choice cut anywhere, or complete."""
        return tuple(_begun(choice, chance.randint(0, choice.end)) for choice in self.answer.values())


def _begun(choice: ChoiceOutput, end: int) -> ChoiceOutput:
    is_whole = end == choice.end
    assert choice.token_ids is not None
    return replace(
        choice,
        token_ids=choice.token_ids[:end],
        texts=choice.texts[:end],
        finish=choice.finish if is_whole else None,
        logprobs=None if choice.logprobs is None else choice.logprobs[:end],
        prompt_logprobs=choice.prompt_logprobs if end else None,
    )


def make_pool(engine: Engine, chance: random.Random, size: int, vocab_size: int) -> list[Known]:
    """Requests with different lengths and sampling parameters. Some share a prefix."""
    shared = [chance.randrange(3, vocab_size) for _ in range(200)]
    return [_alone(engine, _request(chance, shared, vocab_size), chance.choice(_OWNERS)) for _ in range(size)]


def _request(chance: random.Random, shared: list[int], vocab_size: int) -> ResolvedRequest:
    length = chance.choice((1, 5, 60, 130, 450))
    own = [chance.randrange(3, vocab_size) for _ in range(length)]
    prompt = (shared if chance.random() < 0.4 else []) + own
    max_tokens = chance.randint(1, 120)
    sampling = SamplingParams(
        max_tokens=max_tokens,
        seed=chance.randrange(2**63),
        n=chance.choice((1, 1, 1, 2, 3)),
        min_tokens=chance.choice((0, max_tokens // 2)),
        stop=chance.choice(((), ("count", "7 "))),
        **chance.choice(_PARAMS),
    )
    return ResolvedRequest((tuple(prompt),), sampling, chance.choice(((), (2, 30))), "revision")


def _alone(engine: Engine, request: ResolvedRequest, owner: str | None) -> Known:
    engine.add("alone", request)
    outputs: list[EngineOutput] = []
    while engine.has_work:
        outputs += engine.step()
    answer: dict[int, ChoiceOutput] = {}
    join(answer, (choice for output in outputs for choice in output.choices))
    return Known(request, owner, answer)


def join(answer: dict[int, ChoiceOutput], choices: Iterable[ChoiceOutput]) -> None:
    """Append outputs to the answer so far. Fails if the positions do not match."""
    for choice in choices:
        before = answer.get(choice.index)
        assert choice.start == (0 if before is None else before.end), "a gap, or tokens released twice"
        answer[choice.index] = choice if before is None else before.joined(choice)
