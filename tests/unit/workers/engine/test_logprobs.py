"""workers.engine.logprobs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from workers.engine.logprobs import LOWEST, score


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


def test_equal_alternatives_are_told_by_id() -> None:
    logits = torch.zeros(1, 300)
    logits[0, 250:] = 2.0
    assert [i for i, _ in score(logits, [0], [20])[0].top] == list(range(250, 270))


def test_rows_are_told_the_same_alone_and_together() -> None:
    logits = random_logits(9, 3001).bfloat16().float()
    together = score(logits, list(range(9)), [i * 2 for i in range(9)])
    assert together == [score(logits[i : i + 1], [i], [i * 2])[0] for i in range(9)]


@pytest.mark.parametrize("value", [math.nan, -math.inf, math.inf])
def test_what_a_model_computes_is_always_a_number_of_json(value: float) -> None:
    logits = random_logits(2, 50)
    logits[0, :] = value
    logits[1, 3] = value
    for scores in score(logits, [3, 3], [2, 50]):
        assert all(LOWEST <= logprob <= 0 for logprob in (scores.chosen, *[v for _, v in scores.top]))
