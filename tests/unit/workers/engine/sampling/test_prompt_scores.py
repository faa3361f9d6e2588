"""workers.engine.sampling.prompt_scores."""

from __future__ import annotations

import torch

from shared.domain.sampling import SamplingParams
from workers.engine.sampling.logprobs import score_prompt
from workers.engine.sampling.numerics import NumericalError
from workers.engine.sampling.prompt_scores import read_prompts
from workers.engine.scheduling.plan import Plan, Row
from workers.engine.scheduling.sequence import Sequence


def row(start: int, count: int, *, num_prompt_scored: int | None = None, num_prompt: int = 10) -> Row:
    """A row of the prompt 20, 21, 22, ..."""
    sampling = SamplingParams(max_tokens=9, seed=0, prompt_logprobs=2)
    token_ids = list(range(20, 20 + num_prompt))
    return Row(
        Sequence("r", 0, sampling, token_ids, num_prompt, num_prompt_scored=num_prompt_scored),
        0,
        start,
        count,
    )


def logits_of(plan: Plan) -> torch.Tensor:
    """A row for each requested position, all different."""
    num = sum(len(row.wanted) for row in plan.rows)
    return torch.randn(num, 40, generator=torch.Generator().manual_seed(3))


def test_without_prompt_logprobs_all_logits_are_drawn_from() -> None:
    plan = Plan((row(9, 1), row(0, 4)))
    logits = logits_of(plan)
    prompts, left = read_prompts(plan, logits)
    assert prompts == [] and left is logits


def test_the_middle_of_a_prompt_scores_each_next_token_and_draws_nothing() -> None:
    plan = Plan((row(3, 4, num_prompt_scored=3),))
    logits = logits_of(plan)
    (scored,), left = read_prompts(plan, logits)
    assert scored.sequence is plan.rows[0].sequence
    assert scored.tokens == score_prompt(logits, [24, 25, 26, 27], 2)
    assert left.shape == (0, 40)


def test_a_prompts_last_token_is_drawn_from_and_neighbours_keep_their_logits() -> None:
    plan = Plan((row(9, 1), row(6, 4, num_prompt_scored=6), row(2, 3), row(8, 2)))
    logits = logits_of(plan)
    (scored,), left = read_prompts(plan, logits)
    assert scored.tokens == score_prompt(logits[1:4], [27, 28, 29], 2)
    assert left.equal(logits[[0, 4, 5]])


def test_scored_tokens_are_not_scored_again() -> None:
    plan = Plan(
        (row(0, 5, num_prompt_scored=7), row(5, 5, num_prompt_scored=7), row(5, 5, num_prompt_scored=9))
    )
    logits = logits_of(plan)
    assert len(logits) == 0 + 3 + 1
    (nothing, scored), left = read_prompts(plan, logits)
    assert nothing.tokens == []
    assert scored.tokens == score_prompt(logits[:2], [28, 29], 2)
    assert left.equal(logits[2:])


def test_a_prompt_with_unusable_logits_fails() -> None:
    plan = Plan((row(0, 4, num_prompt_scored=0), row(0, 4, num_prompt_scored=0)))
    logits = logits_of(plan)
    logits[5, 3] = float("nan")
    healthy, broken = read_prompts(plan, logits)[0]
    assert healthy.error is None and isinstance(broken.error, NumericalError)
