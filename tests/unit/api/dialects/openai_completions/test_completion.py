"""The whole `text_completion`."""

from __future__ import annotations

from typing import Any

import pytest

from api.dialects.openai_completions.completion import completion
from api.dialects.openai_completions.ids import completion_id, job_id_of
from shared.domain.output import Candidate, Finish, TokenLogprobs
from shared.domain.prompt_logprobs import PromptLogprobs, PromptToken
from shared.domain.result import ChoiceResult, Item, Result
from shared.domain.usage import Usage
from tests.unit.api.streams import JOB_ID, job_info


def choice(text: str, *logprobs: TokenLogprobs, prompt: PromptLogprobs | None = None) -> ChoiceResult:
    items = [Item("text", text)] if text else []
    return ChoiceResult(items, len(text), Finish("length"), list(logprobs), prompt_logprobs=prompt)


def token(text: str, logprob: float, **top: float) -> TokenLogprobs:
    candidates = tuple(Candidate(0, other.encode(), value) for other, value in top.items())
    return TokenLogprobs(Candidate(0, text.encode(), logprob), candidates)


def shown(view: dict[str, Any], *choices: ChoiceResult) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = completion(job_info(len(choices)), view, Result(list(choices)))["choices"]
    return found


def test_ids_are_the_jobs() -> None:
    assert job_id_of(completion_id(JOB_ID)) == JOB_ID
    assert job_id_of("chatcmpl-AbCdEfGh0123456789012345") is None


def test_the_object() -> None:
    assert completion(job_info(), {}, Result([choice("ab")], Usage(3, 2))) == {
        "id": "cmpl-AbCdEfGh0123456789012345",
        "object": "text_completion",
        "created": 1_700_000_000,
        "model": "m",
        "choices": [{"index": 0, "text": "ab", "logprobs": None, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def test_the_best_of_each_prompt_are_shown_best_first() -> None:
    scores = {"a": -3.0, "b": -1.0, "c": -2.0, "d": -1.0, "e": -9.0, "f": -5.0}
    drawn = [choice(text, token(text, logprob)) for text, logprob in scores.items()]
    found = shown({"num_prompts": 2, "best": 2}, *drawn)
    assert [(each["index"], each["text"]) for each in found] == [(0, "b"), (1, "c"), (2, "d"), (3, "f")]
    assert all(each["logprobs"] is None for each in found)


def test_the_mean_decides_and_not_the_sum() -> None:
    short, long = choice("a", token("a", -2.0)), choice("bcd", *[token(each, -1.0) for each in "bcd"])
    assert [each["text"] for each in shown({"best": 1}, short, long)] == ["bcd"]


def test_a_token_is_always_among_the_most_likely() -> None:
    logprobs = shown({"logprobs": 1}, choice("ab", token("a", -3.0, z=-0.1), token("b", -0.2, b=-0.2)))[0]
    assert logprobs["logprobs"] == {
        "tokens": ["a", "b"],
        "token_logprobs": [-3.0, -0.2],
        "top_logprobs": [{"a": -3.0, "z": -0.1}, {"b": -0.2}],
        "text_offset": [0, 1],
    }


PROMPT = PromptLogprobs(
    (PromptToken(2, -1.5, 2, ((3, -0.5), (2, -1.5))), PromptToken(3, float("-inf"), 9)),
    {1: "<s>", 2: "é", 3: " b"},
    first=1,
    raws={1: b"", 2: "é".encode(), 3: b" b"},
    text="é b",
)


def test_the_echoed_prompt_comes_first() -> None:
    view = {"logprobs": 1, "echo": True}
    (found,) = shown(view, choice("é bX", token("X", -0.25), prompt=PROMPT))
    assert found["logprobs"] == {
        "tokens": ["<s>", "é", " b", "X"],
        "token_logprobs": [None, -1.5, -9999.0, -0.25],
        "top_logprobs": [None, {"é": -1.5, " b": -0.5}, {" b": -9999.0}, {"X": -0.25}],
        "text_offset": [0, 0, 1, 3],
    }
    assert "prompt_logprobs" not in found


def test_every_choice_of_a_prompt_has_its_tokens() -> None:
    found = shown({"logprobs": 0, "echo": True}, choice("é bX", token("X", -1.0), prompt=PROMPT),
                  choice("é bY", token("Y", -2.0)))  # fmt: skip
    assert [each["logprobs"]["tokens"] for each in found] == [["<s>", "é", " b", last] for last in "XY"]


@pytest.mark.parametrize("num", [0, 1])
def test_vllms_prompt_logprobs_stand_beside_the_text(num: int) -> None:
    (found,) = shown({"prompt_logprobs": num}, choice("X", prompt=PROMPT))
    assert found["logprobs"] is None
    assert [None if each is None else list(each) for each in found["prompt_logprobs"]] == [
        None,
        ["2", "3"] if num else ["2"],
        ["3"],
    ]


def test_the_space_that_a_tokenizer_adds_in_front_is_not_counted() -> None:
    prompt = PromptLogprobs(
        (PromptToken(2, -1.0, 1),), {1: " a", 2: "b"}, first=1, raws={1: b" a", 2: b"b"}, text="ab"
    )
    (found,) = shown({"logprobs": 0, "echo": True}, choice("abX", token("X", -1.0), prompt=prompt))
    assert found["logprobs"]["text_offset"] == [0, 1, 2]
