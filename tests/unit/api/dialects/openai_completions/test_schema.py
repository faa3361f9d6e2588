"""A completion's body, read."""

from __future__ import annotations

from typing import Any

import pytest

from api.dialects.base import Parsed
from api.dialects.openai_completions.dialect import OpenAICompletions
from shared.domain.request import READER_VERSION, SamplingOptions, TextPrompt, TokenPrompt
from shared.errors import RequestError


def parse(**fields: Any) -> Parsed:
    return OpenAICompletions().parse({"model": "m", "prompt": "a", **fields})


def refused(**fields: Any) -> tuple[str | None, str | None]:
    with pytest.raises(RequestError) as caught:
        parse(**fields)
    assert caught.value.info.status == 400
    return caught.value.info.param, caught.value.info.code


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a", (TextPrompt("a"),)),
        (["a", "b"], (TextPrompt("a"), TextPrompt("b"))),
        ([1, 2], (TokenPrompt((1, 2)),)),
        ([[1], [2, 3]], (TokenPrompt((1,)), TokenPrompt((2, 3)))),
        (["a", [1]], (TextPrompt("a"), TokenPrompt((1,)))),
    ],
)
def test_the_forms_of_a_prompt(prompt: Any, expected: Any) -> None:
    assert parse(prompt=prompt).request.prompts == expected


@pytest.mark.parametrize(
    ("prompt", "fault"),
    [
        (None, ("prompt", "missing_required_parameter")),
        (1, ("prompt", "invalid_type")),
        (True, ("prompt", "invalid_type")),
        ([], ("prompt", "empty_array")),
        ("", ("prompt", "invalid_value")),
        ([True], ("prompt[0]", "invalid_type")),
        ([1, "a"], ("prompt[0]", "invalid_type")),
        (["a", ""], ("prompt[1]", "invalid_value")),
        ([[1, 1.5]], ("prompt[0][1]", "invalid_value")),
        ([-1], ("prompt[0]", "invalid_value")),
        ([[]], ("prompt[0]", "invalid_value")),
        ([[2**31]], ("prompt[0]", None)),
    ],
)
def test_a_prompt_that_is_none_names_its_fault(prompt: Any, fault: tuple[str, str | None]) -> None:
    param, code = refused(prompt=prompt)
    assert param is not None and param.startswith(fault[0])
    assert fault[1] in (None, code)


def test_the_defaults() -> None:
    parsed = parse()
    assert parsed.request.sampling == SamplingOptions(max_tokens=16)
    assert parsed.view == {"num_prompts": 1} and not parsed.is_streamed and parsed.request.needs == 1


def test_echo_scores_the_prompt_as_logprobs_ask() -> None:
    sampling = parse(echo=True, logprobs=2, prompt_logprobs=1).request.sampling
    assert (sampling.echo, sampling.logprobs, sampling.prompt_logprobs) == (True, 2, 2)
    assert parse(echo=True).request.sampling.prompt_logprobs is None
    assert parse(echo=True).request.needs == READER_VERSION


def test_a_limit_of_nought_draws_a_token_that_is_not_shown() -> None:
    sampling = parse(max_tokens=0).request.sampling
    assert (sampling.max_tokens, sampling.prompt_only) == (1, True)


def test_choices_beyond_n_are_drawn_and_scored() -> None:
    parsed = parse(n=2, best_of=5)
    assert (parsed.request.n, parsed.request.sampling.logprobs) == (5, 0)
    assert parsed.view == {"best": 2, "num_prompts": 1}
    assert parse(n=2, best_of=2).view == {"num_prompts": 1}


def test_a_suffix_goes_with_every_prompt() -> None:
    parsed = parse(prompt=["a", "b"], suffix="z")
    assert parsed.request.prompts == (TextPrompt("a", "z"), TextPrompt("b", "z"))
    assert parsed.request.needs == READER_VERSION


def test_unknown_fields_are_reported() -> None:
    assert parse(foo=1, stream=True, stream_options={"bar": 1}).ignored == ("foo", "stream_options.bar")


def test_a_chat_is_refused_by_name() -> None:
    assert refused(messages=[])[0] == "messages"
    assert refused(max_tokens=-1)[0] == "max_tokens"
    assert refused(n=16, max_tokens=20_000)[0] in ("n", "max_tokens")
