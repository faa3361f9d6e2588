"""workers.engine.sampling.logprobs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from workers.engine.sampling.logprobs import LOWEST, score, score_prompt
from workers.engine.sampling.ranking import best_ids


def random_logits(num_rows: int, num_tokens: int) -> torch.Tensor:
    return torch.randn(num_rows, num_tokens, generator=torch.Generator().manual_seed(1)) * 4


@pytest.mark.parametrize("num_tokens", [7, 5000])
def test_log_probabilities_are_those_of_float64(num_tokens: int) -> None:
    logits = random_logits(4, num_tokens)
    exact = logits.double() - logits.double().logsumexp(-1, keepdim=True)
    for row, scores in enumerate(score(logits, [0, 1, 2, 3], [5, 0, 20, 3])):
        assert scores.chosen == pytest.approx(float(exact[row, row]), abs=2e-5)
        order = np.lexsort((np.arange(num_tokens), -logits[row].numpy()))[: [5, 0, 20, 3][row]]
        assert [token_id for token_id, _ in scores.top] == order.tolist()
        assert [value for _, value in scores.top] == pytest.approx(exact[row, order].tolist(), abs=2e-5)


def test_equal_alternatives_are_ordered_by_id() -> None:
    logits = torch.zeros(1, 300)
    logits[0, 250:] = 2.0
    assert [i for i, _ in score(logits, [0], [20])[0].top] == list(range(250, 270))


def test_rows_are_scored_the_same_alone_and_together() -> None:
    logits = random_logits(9, 3001).bfloat16().float()
    together = score(logits, list(range(9)), [i * 2 for i in range(9)])
    assert together == [score(logits[i : i + 1], [i], [i * 2])[0] for i in range(9)]


@pytest.mark.parametrize("value", [math.nan, -math.inf, math.inf])
def test_every_model_output_gives_a_json_number(value: float) -> None:
    logits = random_logits(2, 50)
    logits[0, :] = value
    logits[1, 3] = value
    for scores in score(logits, [3, 3], [2, 50]):
        assert all(LOWEST <= logprob <= 0 for logprob in (scores.chosen, *[v for _, v in scores.top]))


@pytest.mark.parametrize("num_tokens", [7, 5000])
def test_tokens_of_a_prompt_are_those_of_float64_with_their_rank(num_tokens: int) -> None:
    logits, following = random_logits(120, num_tokens), [i % num_tokens for i in range(120)]
    exact = logits.double().log_softmax(-1)
    scored = score_prompt(logits, following, 4)
    assert [one.token_id for one in scored] == following
    for one, row, of_all in zip(scored, exact, logits.tolist(), strict=True):
        assert one.logprob == pytest.approx(float(row[one.token_id]), abs=2e-5)
        assert one.rank == 1 + sum(other > of_all[one.token_id] for other in of_all)
        assert [value for _, value in one.top] == pytest.approx(row.topk(4).values.tolist(), abs=2e-5)


def test_equal_tokens_of_a_prompt_rank_by_id_as_their_alternatives_do() -> None:
    logits = random_logits(60, 90).round()
    following = [3 * i % 90 for i in range(60)]
    order = best_ids(logits, 90).tolist()
    scored = score_prompt(logits, following, 20)
    for one, ranked in zip(scored, order, strict=True):
        assert one.rank == 1 + ranked.index(one.token_id)
        assert [token_id for token_id, _ in one.top] == ranked[:20]
    assert len({one.rank for one in scored}) > 20


def test_prompt_tokens_are_scored_like_drawn_ones_alone_and_together() -> None:
    logits = random_logits(200, 3001).bfloat16().float()
    following = list(range(200))
    together = score_prompt(logits, following, 3)
    assert together == [score_prompt(logits[i : i + 1], [i], 3)[0] for i in range(200)]
    drawn = score(logits, following, [3] * 200)
    assert [(one.logprob, one.top) for one in together] == [(one.chosen, one.top) for one in drawn]


@pytest.mark.parametrize("value", [math.nan, -math.inf, math.inf])
def test_every_model_output_gives_a_json_number_for_prompts(value: float) -> None:
    logits = random_logits(2, 50)
    logits[0, :] = value
    logits[1, 3] = value
    for one in score_prompt(logits, [3, 3], 2):
        assert all(LOWEST <= logprob <= 0 for logprob in (one.logprob, *[v for _, v in one.top]))
        assert 1 <= one.rank <= 50
