"""workers.engine.sampling.logit_adjustments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workers.engine.sampling_reference import adjusted_logits, params
from workers.engine.sampling.logit_adjustments import Due, LogitAdjustments, adjust

_NUM_TOKENS = 200
_IDS = st.integers(0, _NUM_TOKENS - 1)
_PARAMS = st.fixed_dictionaries(
    {
        "repetition_penalty": st.sampled_from([1.0, 1.3, 0.5, 2.0]),
        "presence_penalty": st.sampled_from([0.0, 0.6, -2.0]),
        "frequency_penalty": st.sampled_from([0.0, 0.3, 2.0, -0.1]),
        "min_tokens": st.integers(0, 8),
        "logit_bias": st.dictionaries(_IDS, st.sampled_from([-100.0, -1.5, 2.0, 100.0]), max_size=5).map(
            lambda bias: tuple(sorted(bias.items()))
        ),
    }
)
_SEQUENCE = st.tuples(
    _PARAMS, st.lists(_IDS, max_size=3), st.lists(_IDS, max_size=150), st.lists(_IDS, max_size=12)
)


def random_logits(num_rows: int) -> torch.Tensor:
    return torch.randn(num_rows, _NUM_TOKENS, generator=torch.Generator().manual_seed(3)) * 3


def due_rows(sequences: list[tuple[Any, ...]]) -> list[Due]:
    due = []
    for row, (changed, stops, prompt, output) in enumerate(sequences):
        adjustments = LogitAdjustments.of(params(**changed), stops, prompt, output)
        if adjustments is not None and adjustments.is_due(len(output)):
            due.append(Due(row, len(output), adjustments))
    return due


@given(st.lists(_SEQUENCE, min_size=1, max_size=5))
def test_each_row_is_adjusted_like_the_reference(sequences: list[tuple[Any, ...]]) -> None:
    logits = random_logits(len(sequences))
    before = logits.clone()
    if due := due_rows(sequences):
        adjust(logits, due)
    for row, (changed, *tokens) in enumerate(sequences):
        expected = adjusted_logits(before[row].tolist(), params(**changed), *tokens)
        np.testing.assert_allclose(logits[row].numpy(), expected, rtol=1e-5, atol=1e-4)


@given(_SEQUENCE, st.integers(0, 12))
def test_a_replay_from_any_position_gives_the_same_table(sequence: tuple[Any, ...], cut: int) -> None:
    changed, stops, prompt, output = sequence
    whole = LogitAdjustments.of(params(**changed), stops, prompt, output)
    resumed = LogitAdjustments.of(params(**changed), stops, prompt, output[:cut])
    assert (whole is None) == (resumed is None)
    if whole is None or resumed is None:
        return
    for token_id in output[cut:]:
        resumed.push(token_id)
    ids, columns = whole.table(len(output))
    resumed_ids, resumed_columns = resumed.table(len(output))
    assert np.array_equal(ids, resumed_ids) and np.array_equal(columns, resumed_columns)


def test_parameters_that_change_nothing_need_no_adjustments() -> None:
    assert (
        LogitAdjustments.of(params(temperature=0.3, top_p=0.5, top_k=3, stop=("a",)), [1], [2], [3]) is None
    )
    assert LogitAdjustments.of(params(min_tokens=4), [], [2], [3]) is None


def test_stop_tokens_alone_are_due_until_min_tokens() -> None:
    adjustments = LogitAdjustments.of(params(min_tokens=2), [7], [], [])
    assert adjustments is not None
    assert [adjustments.is_due(position) for position in range(4)] == [True, True, False, False]


def test_repetition_counts_the_prompt_and_the_other_penalties_do_not() -> None:
    logits = torch.ones(1, 4)
    adjustments = LogitAdjustments.of(
        params(repetition_penalty=2.0, presence_penalty=0.25, frequency_penalty=0.5), [], [0, 0, 1], [1, 2, 2]
    )
    assert adjustments is not None
    adjust(logits, [Due(0, 3, adjustments)])
    assert logits.tolist() == [[0.5, 0.5 - 0.75, 0.5 - 1.25, 1.0]]


def test_a_bias_beyond_float32_is_clamped() -> None:
    logits = torch.zeros(1, 3)
    adjustments = LogitAdjustments.of(params(logit_bias=((0, 1e300), (1, -1e300))), [], [], [])
    assert adjustments is not None
    adjust(logits, [Due(0, 0, adjustments)])
    assert logits[0].argmax() == 0 and logits[0].argmin() == 1


def test_an_id_beyond_the_vocabulary_never_reaches_the_next_row() -> None:
    logits = torch.zeros(2, 3)
    adjustments = LogitAdjustments.of(params(logit_bias=((4, 5.0),)), [], [], [])
    assert adjustments is not None
    with pytest.raises(IndexError):
        adjust(logits, [Due(0, 0, adjustments)])
    assert not logits.any()
