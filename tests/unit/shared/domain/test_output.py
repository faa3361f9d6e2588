"""A choice's output can be cut at any unit, and says at each what it adds to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.output import (
    LEAST_LOGPROB,
    Args,
    Candidate,
    ChoiceOutput,
    Close,
    Data,
    Finish,
    Head,
    Op,
    Open,
    Reasoning,
    Refusal,
    Text,
    TokenLogprobs,
    finite_logprob,
)
from tests.unit.shared.domain.test_prompt_logprobs import PROMPT_LOGPROBS

_text = st.text("ab", max_size=2)
ops: st.SearchStrategy[Op] = st.one_of(
    st.builds(Text, _text),
    st.builds(Reasoning, _text),
    st.builds(Refusal, _text),
    st.builds(Open, st.just("f")),
    st.builds(Args, _text),
    st.builds(Data, st.just("signature"), _text),
    st.just(Close()),
)
heads = st.builds(
    Head,
    st.integers(0, 3),
    st.sampled_from([None, "text", "reasoning", "args"]),
    st.just(0),
    st.just(0),
    st.just(5),
)


@st.composite
def outputs(draw: st.DrawFn) -> ChoiceOutput:
    """Units of every form, from anywhere."""
    texts = tuple(draw(st.lists(_text, max_size=6)))
    offsets = st.integers(0, max(0, len(texts) - 1))
    marks = draw(st.dictionaries(offsets, st.lists(ops, max_size=3).map(tuple), max_size=3)) if texts else {}
    logprobs = tuple(TokenLogprobs(Candidate(1, text.encode(), -1.0)) for text in texts)
    return ChoiceOutput(
        0,
        draw(st.integers(0, 20)),
        draw(st.sampled_from([None, tuple(range(len(texts)))])),
        texts,
        draw(st.sampled_from([None, Finish("length"), Finish("stop", "x")])),
        draw(st.sampled_from([None, logprobs])),
        draw(heads),
        marks or None,
    )


def front(whole: ChoiceOutput, num: int) -> ChoiceOutput:
    """The first units of an output."""
    marks = {offset: each for offset, each in (whole.marks or {}).items() if offset < num}
    return ChoiceOutput(
        0,
        whole.start,
        None if whole.token_ids is None else whole.token_ids[:num],
        whole.texts[:num],
        None,
        None if whole.logprobs is None else whole.logprobs[:num],
        whole.head,
        marks or None,
    )


@given(outputs(), st.data())
def test_an_output_cut_anywhere_joins_again(whole: ChoiceOutput, data: st.DataObject) -> None:
    cut = data.draw(st.integers(whole.start, whole.end))
    first, rest = front(whole, cut - whole.start), whole.since(cut)
    assert (rest.start, rest.end) == (cut, whole.end)
    assert first.joined(rest) == whole


@given(outputs(), st.data())
def test_a_cut_output_has_the_state_after_the_units_before_it(
    whole: ChoiceOutput, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(whole.start, whole.end))
    first, rest = front(whole, cut - whole.start), whole.since(cut)
    assert rest.head == first.head_after
    assert rest.head_after == whole.head_after
    assert [*first.ops(), *rest.ops()] == [*whole.ops()]


@given(outputs())
def test_each_operation_begins_in_the_state_that_the_last_one_left(output: ChoiceOutput) -> None:
    head = output.head
    for position, before, op in output.ops():
        assert before == head and output.start <= position < output.end
        head = before.after(op, position)
    assert output.head_after == head


@given(outputs())
def test_characters_of_text_are_counted(output: ChoiceOutput) -> None:
    assert output.head_after.chars == output.head.chars + len(output.text)


def test_plain_text_opens_an_item_where_none_is_open() -> None:
    output = ChoiceOutput(0, 3, (1, 2), ("", "ab"))
    assert [*output.ops()] == [(4, Head(), Text("ab"))]
    assert output.head_after == Head(0, "text", 0, 4, 2)


def test_an_answer_with_reasoning_and_a_call() -> None:
    output = ChoiceOutput(
        0, 0, None, ("", "m", "", "", "1}", ""),
        marks={
            0: (Reasoning("h"),),
            2: (Close(), Text("ok")),
            3: (Open("f", "c"), Args("{")),
            5: (Close(), Open("g"), Close()),
        },
    )  # fmt: skip
    assert [(position, op) for position, _, op in output.ops()] == [
        (0, Reasoning("h")),
        (1, Reasoning("m")),
        (2, Close()),
        (2, Text("ok")),
        (3, Open("f", "c")),
        (3, Args("{")),
        (4, Args("1}")),
        (5, Close()),
        (5, Open("g")),
        (5, Close()),
    ]
    assert (output.text, output.text_of("reasoning"), output.text_of("args")) == ("ok", "hm", "{1}")
    assert output.head_after == Head(4, None, 2, 5, 2)


def test_data_and_a_second_close_change_nothing() -> None:
    head = Head(1, None, 0, 4, 2)
    assert head.after(Data("signature", "x"), 9) == head.after(Close(), 9) == head


def test_prompt_logprobs_go_with_the_first_token() -> None:
    whole = ChoiceOutput(0, 0, (1, 2), ("a", "b"), prompt_logprobs=PROMPT_LOGPROBS)
    assert whole.since(0) == whole
    rest = whole.since(1)
    assert rest == ChoiceOutput(0, 1, (2,), ("b",), head=Head(0, "text", 0, 0, 1))
    assert ChoiceOutput(0, 0, (1,), ("a",), prompt_logprobs=PROMPT_LOGPROBS).joined(rest) == whole


def test_a_part_past_the_end_is_empty() -> None:
    stop = Finish("stop")
    rest = ChoiceOutput(0, 3, (1,), ("a",), stop).since(9)
    assert rest == ChoiceOutput(0, 4, (), (), stop, head=Head(0, "text", 0, 3, 1))


def test_a_probability_of_nothing_is_a_finite_number() -> None:
    assert [finite_logprob(value) for value in (-1.0, float("-inf"), float("nan"))] == [
        -1.0,
        LEAST_LOGPROB,
        LEAST_LOGPROB,
    ]
