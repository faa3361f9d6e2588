from __future__ import annotations

from msgspec.structs import replace

from bench.harness.verdict import compare
from shared.domain.output import Candidate, ChoiceOutput, TokenLogprobs


def _answer(*token_ids: int, start: int = 0) -> ChoiceOutput:
    logprobs = tuple(TokenLogprobs(Candidate(one, b"", -0.5), ()) for one in token_ids)
    return ChoiceOutput(0, start, token_ids, ("",) * len(token_ids), None, logprobs)


def test_ends_of_answers_are_held_against_the_same_places() -> None:
    verdict = compare("way", {0: _answer(1, 2, 3)}, {0: _answer(2, 3, start=1)}, "")
    assert verdict.is_equal and verdict.tokens == 2


def test_other_tokens_other_logprobs_and_other_lengths_are_counted() -> None:
    alone = {0: _answer(1, 2, 3), 1: _answer(4, 5), 2: _answer(6)}
    nearly = TokenLogprobs(Candidate(5, b"", -0.5000001), ())
    found = {
        0: _answer(1, 2, 9),
        1: replace(_answer(4, 5), logprobs=(_answer(4).logprobs or ()) + (nearly,)),
        2: _answer(6, 7),
    }
    verdict = compare("way", alone, found, "")
    assert (verdict.different_tokens, verdict.different_logprobs) == (2, 3)
    assert not verdict.is_equal


def test_nothing_compared_is_not_equal() -> None:
    assert not compare("way", {}, {}, "").is_equal
