"""shared.domain.prompt_logprobs."""

from __future__ import annotations

import json

import msgspec

from shared.domain.prompt_logprobs import MAX_PROMPT_CANDIDATES, PromptLogprobs, PromptToken

PROMPT_LOGPROBS = PromptLogprobs(
    (PromptToken(5, -2.25, 9, ((7, -0.5), (8, -1.0))), PromptToken(7, -0.5, 1, ((7, -0.5), (5, -3.0)))),
    {5: "é", 7: " a", 8: "<|end|>"},
)


def test_they_survive_their_json() -> None:
    for logprobs in (PROMPT_LOGPROBS, PromptLogprobs(), PromptLogprobs((PromptToken(1, -1.0, 3),), {1: ""})):
        assert msgspec.json.decode(msgspec.json.encode(logprobs), type=PromptLogprobs) == logprobs


def test_they_are_written_so_and_read_with_what_is_new() -> None:
    raw = (
        '{"tokens":[[5,-2.25,9,[[7,-0.5],[8,-1.0]]],[7,-0.5,1,[[7,-0.5],[5,-3.0]]]],'
        '"texts":{"5":"é","7":" a","8":"<|end|>"}}'
    )
    assert msgspec.json.encode(PROMPT_LOGPROBS).decode() == raw
    fields = json.loads(raw)
    fields["mood"] = "good"
    fields["tokens"][0].append("more")
    assert msgspec.json.decode(json.dumps(fields), type=PromptLogprobs) == PROMPT_LOGPROBS


def test_every_candidate_counts() -> None:
    assert (PROMPT_LOGPROBS.num_candidates, PromptLogprobs().num_candidates) == (6, 0)


def test_the_greatest_is_an_event_of_two_megabytes() -> None:
    """The widest numbers that a vocabulary of a million tokens has."""
    top = tuple((999_999 - i, -12.345678) for i in range(20))
    token = PromptToken(999_999, -12.345678, 999_999, top)
    logprobs = PromptLogprobs((token,) * (MAX_PROMPT_CANDIDATES // 21), dict.fromkeys(range(50_000), " word"))
    assert len(msgspec.json.encode(logprobs)) < 2_500_000
