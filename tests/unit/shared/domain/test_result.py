"""A result is the same however the output was cut into events."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.output import (
    Args,
    Candidate,
    ChoiceOutput,
    Close,
    Data,
    Finish,
    Head,
    Open,
    Reasoning,
    Text,
    TokenLogprobs,
)
from shared.domain.result import ChoiceResult, Item, Result
from shared.domain.usage import Usage
from shared.errors import DecodeError
from tests.unit.shared.domain.test_output import front, outputs
from tests.unit.shared.domain.test_prompt_logprobs import PROMPT_LOGPROBS


def result_of(*outputs: ChoiceOutput) -> Result:
    result = Result.empty(1)
    result.take(outputs)
    return result


def from_the_start(output: ChoiceOutput) -> ChoiceOutput:
    """The same units as a choice's first ones."""
    return msgspec.structs.replace(output, start=0, head=Head())


@given(outputs(), st.lists(st.integers(0, 6)))
def test_events_may_be_cut_anywhere(output: ChoiceOutput, cuts: list[int]) -> None:
    whole = from_the_start(output)
    parts, rest = [], whole
    for cut in sorted(cuts):
        if cut < rest.end:
            parts.append(front(rest, max(0, cut - rest.start)))
            rest = rest.since(max(cut, rest.start))
    assert result_of(*parts, rest) == result_of(whole)


@given(outputs())
def test_a_result_decodes_to_itself(output: ChoiceOutput) -> None:
    result = result_of(from_the_start(output))
    assert Result.decode(result.encode()) == result


def test_an_answer_is_its_items() -> None:
    output = ChoiceOutput(
        0, 0, (1, 2, 3, 4), ("", "", "!", ""), Finish("tool_calls"),
        marks={
            0: (Reasoning("hm"), Data("signature", "a"), Data("signature", "b"), Close()),
            1: (Text("ok"),),
            3: (Open("f", "c"), Args("{}"), Close(), Open("g"), Close()),
        },
    )  # fmt: skip
    (choice,) = result_of(output).choices
    assert choice == ChoiceResult(
        [
            Item("reasoning", "hm", data={"signature": "ab"}, start=0),
            Item("text", "ok!", start=1),
            Item("args", "{}", "f", "c", start=3),
            Item("args", "", "g", start=3),
        ],
        4,
        Finish("tool_calls"),
        None,
        [1, 2, 3, 4],
    )
    assert (choice.text, choice.text_of("reasoning"), choice.text_of("refusal")) == ("ok!", "hm", "")


def test_choices_do_not_mix() -> None:
    result = Result.empty(2)
    logprobs = (TokenLogprobs(Candidate(7, b"b", -0.5)),)
    result.take(
        [
            ChoiceOutput(0, 0, (1,), ("a",)),
            ChoiceOutput(1, 0, (2,), ("b",), None, logprobs, prompt_logprobs=PROMPT_LOGPROBS),
        ]
    )
    result.take([ChoiceOutput(0, 1, (3,), ("c",), Finish("stop"), head=Head(0, "text", 0, 0, 1))])
    assert [choice.text for choice in result.choices] == ["ac", "b"]
    assert [choice.finish for choice in result.choices] == [Finish("stop"), None]
    assert (result.choices[1].logprobs, result.choices[1].prompt_logprobs) == ([*logprobs], PROMPT_LOGPROBS)
    assert result.choices[0].logprobs is None


def test_usage_is_kept() -> None:
    assert Result.decode(Result([], Usage(1, 2, 3, 4)).encode()).used == Usage(1, 2, 3, 4)


def test_it_is_written_so_and_read_with_what_is_new() -> None:
    raw = (
        '{"choices":[{"items":[{"kind":"text","text":"a","name":null,"id":null,"data":{},"start":0,"mood":1}],'
        '"position":1,"finish":["stop",null],"logprobs":null,"token_ids":[5],"prompt_logprobs":null}],'
        '"used":[1,1,0,0],"mood":"good"}'
    )
    result = result_of(ChoiceOutput(0, 0, (5,), ("a",), Finish("stop")))
    result.used = Usage(1, 1)
    assert Result.decode(raw) == result
    assert result.encode().decode() == raw.replace(',"mood":1', "").replace(',"mood":"good"', "")


@pytest.mark.parametrize("raw", ["", "[]", "{}", '{"choices":[{"items":[{"kind":"song"}]}]}', b"\xff"])
def test_anything_else_is_a_decode_error(raw: str | bytes) -> None:
    with pytest.raises(DecodeError):
        Result.decode(raw)
