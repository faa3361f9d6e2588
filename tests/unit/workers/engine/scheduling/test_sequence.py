from __future__ import annotations

import pytest

from shared.domain.sampling import SamplingParams
from shared.errors import RequestError
from tests.unit.workers.engine.constraints.test_matcher import begin
from workers.engine.sampling.logit_adjustments import LogitAdjustments
from workers.engine.scheduling.drafter import Drafter
from workers.engine.scheduling.sequence import Sequence


def test_resumed_sequence_reads_what_was_released_and_draws_the_next_position() -> None:
    sequence = Sequence("r", 0, SamplingParams(max_tokens=9, seed=0), [5, 6, 7, 8, 9], num_prompt_tokens=3)
    assert (sequence.num_tokens, sequence.num_uncomputed, sequence.position) == (5, 5, 2)
    assert sequence.max_len == 12


def test_the_token_that_was_drawn_counts_for_what_follows() -> None:
    sampling = SamplingParams(max_tokens=9, seed=0, presence_penalty=1.0)
    sequence = Sequence("r", 0, sampling, [5, 6], 2, LogitAdjustments.of(sampling, [], [5, 6], []))
    sequence.append(7)
    assert (sequence.token_ids, sequence.position) == ([5, 6, 7], 1)
    assert sequence.adjustments is not None
    assert sequence.adjustments.table(1)[0].tolist() == [7]


def test_the_token_that_was_drawn_is_taken_by_the_grammar() -> None:
    sequence = Sequence("r", 0, SamplingParams(max_tokens=9, seed=0), [5], 1, matcher=begin("regex", "ab"))
    sequence.append(ord("a"))
    assert not sequence.is_complete
    with pytest.raises(RequestError):
        sequence.append(ord("c"))
    assert sequence.token_ids == [5, ord("a")]
    sequence.append(ord("b"))
    assert sequence.is_complete


def test_the_last_token_of_the_output_is_not_guessed() -> None:
    sampling = SamplingParams(max_tokens=5, seed=0)
    sequence = Sequence("r", 0, sampling, [1, 1, 1, 1, 1], 5, drafter=Drafter())
    assert sequence.draft(3, 0.0) == (1, 1, 1)
    assert sequence.draft(9, 0.0) == (1, 1, 1, 1)
    for _ in range(4):
        sequence.append(1)
    assert sequence.draft(9, 0.0) == ()


def test_who_has_no_drafter_guesses_nothing() -> None:
    assert Sequence("r", 0, SamplingParams(max_tokens=5, seed=0), [1] * 5, 5).draft(9, 0.0) == ()


def test_without_a_grammar_a_text_is_never_complete() -> None:
    assert not Sequence("r", 0, SamplingParams(max_tokens=9, seed=0), [5], 1).is_complete


def test_prompt_logprobs_are_wanted_until_all_but_the_last_token_are_scored() -> None:
    sampling = SamplingParams(max_tokens=9, seed=0, prompt_logprobs=0)
    asked = Sequence("r", 0, sampling, [5, 6, 7], 3, num_prompt_scored=0)
    assert asked.wants_prompt_logprobs
    asked.num_prompt_scored = 1
    assert asked.wants_prompt_logprobs
    asked.num_prompt_scored = 2
    assert not asked.wants_prompt_logprobs
    assert not Sequence("r", 0, sampling, [5], 1, num_prompt_scored=0).wants_prompt_logprobs
    assert not Sequence("r", 1, sampling, [5, 6, 7], 3).wants_prompt_logprobs
