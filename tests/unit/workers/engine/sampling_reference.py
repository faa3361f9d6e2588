"""Reference for drawing tokens: written out in float64, one row at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.domain.sampling import SamplingParams

#: Chi-square's 0.999 quantile, by degrees of freedom (its cube-root approximation).
_QUANTILE = 3.09


def adjusted_logits(
    logits: Sequence[float],
    sampling: SamplingParams,
    stop_token_ids: Sequence[int],
    prompt: Sequence[int],
    output: Sequence[int],
) -> NDArray[np.float64]:
    """Apply allowed tokens, bad words, bias, barred stop tokens, then the penalties, for the token after the
    output."""
    adjusted = np.array(logits, np.float64)
    for token_id, bias in sampling.logit_bias:
        adjusted[token_id] += bias
    if len(output) < sampling.min_tokens:
        adjusted[list(stop_token_ids)] = -np.inf
    for token_id in {*prompt, *output}:
        value = adjusted[token_id]
        penalty = sampling.repetition_penalty
        adjusted[token_id] = value / penalty if value > 0 else value * penalty
    for token_id, count in Counter(output).items():
        adjusted[token_id] -= sampling.frequency_penalty * count + sampling.presence_penalty
    if sampling.allowed_token_ids:
        adjusted[np.setdiff1d(np.arange(len(adjusted)), sampling.allowed_token_ids)] = -np.inf
    for *others, last in sampling.bad_words:
        if list(output[len(output) - len(others) :]) == others:
            adjusted[last] = -np.inf
    return adjusted


def distribution(logits: NDArray[np.float64], sampling: SamplingParams) -> NDArray[np.float64]:
    """The probability of each token after temperature, min_p, top_k, and top_p of the rest. Ties by id."""
    with np.errstate(over="ignore", under="ignore"):
        weights = np.exp((logits - logits.max()) / max(sampling.temperature, 1e-6))
    weights[weights < sampling.min_p] = 0
    order = np.lexsort((np.arange(len(logits)), -logits))
    weights[order[sampling.top_k :] if sampling.top_k is not None else []] = 0
    ranked = weights[order] / weights.sum()
    before = np.cumsum(ranked) - ranked
    weights[order[before >= sampling.top_p]] = 0
    probabilities: NDArray[np.float64] = weights / weights.sum()
    return probabilities


def assert_distributed(tokens: Sequence[int], probabilities: NDArray[np.float64]) -> None:
    """Check that no impossible token was drawn. Chi-square test over the likely tokens and all others
    together."""
    counts = Counter(tokens)
    assert all(probabilities[token] > 0 for token in counts)
    common = [
        (counts[token], probability)
        for token, probability in enumerate(probabilities)
        if probability * len(tokens) >= 10
    ]
    common.append((len(tokens) - sum(c for c, _ in common), 1 - sum(p for _, p in common)))
    chi_square = sum((c - p * len(tokens)) ** 2 / (p * len(tokens)) for c, p in common if p > 1e-4)
    freedom = max(1, len(common) - 1)
    assert chi_square < freedom * (1 - 2 / (9 * freedom) + _QUANTILE * math.sqrt(2 / (9 * freedom))) ** 3


def params(**changed: Any) -> SamplingParams:
    return SamplingParams(**{"max_tokens": 100, "seed": 0, **changed})
