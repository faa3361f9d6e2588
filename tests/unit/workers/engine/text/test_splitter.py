"""workers.engine.text.splitter and part_builder, with a splitter as models have them."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.output import (
    MAX_OPS,
    Args,
    ChoiceOutput,
    Close,
    Finish,
    Head,
    Op,
    Open,
    Reasoning,
    Text,
)
from shared.domain.result import Result
from shared.domain.sampling import SamplingParams
from shared.errors import RequestError
from tests.hermes_splitter import SPLITTERS, HermesSplitter
from tests.pieces import PieceBytes
from workers.engine.resolved_request import ResolvedRequest
from workers.engine.text.output_builder import OutputBuilder
from workers.engine.text.part_builder import PartBuilder
from workers.engine.text.splitter import Splitters

_END = 10_000
STOP = Finish("stop")


def make_builder(
    pieces: Sequence[str | bytes],
    *,
    stop: tuple[str, ...] = (),
    max_tokens: int = 1000,
    output_format: str | None = "hermes@1",
    splitters: Splitters = SPLITTERS,
) -> OutputBuilder:
    sampling = SamplingParams(max_tokens=max_tokens, seed=0, stop=stop)
    request = ResolvedRequest(((1,),), sampling, (_END,), "revision", output_format)
    return OutputBuilder(PieceBytes(pieces), request, 0, splitters)


def run(builder: OutputBuilder, token_ids: Sequence[int]) -> list[ChoiceOutput]:
    """What is released, until the choice or the tokens end."""
    released: list[ChoiceOutput] = []
    for token_id in token_ids:
        if (output := builder.push(token_id)) is not None:
            released.append(output)
            if output.finish:
                break
    return released


def joined(outputs: Sequence[ChoiceOutput]) -> ChoiceOutput:
    return functools.reduce(ChoiceOutput.joined, outputs, ChoiceOutput(0, 0, (), ()))


def whole(
    pieces: Sequence[str | bytes], *, stop: tuple[str, ...] = (), max_tokens: int = 1000
) -> ChoiceOutput:
    builder = make_builder(pieces, stop=stop, max_tokens=max_tokens)
    return joined(run(builder, [*range(len(pieces)), _END]))


def items(output: ChoiceOutput) -> list[tuple[str, str | None, str]]:
    result = Result.empty(1)
    result.take([output])
    return [(item.kind, item.name, item.text) for item in result.choices[0].items]


CALL = '<tool_call>\n{"name": "look", "arguments": {"at": "}{"}}\n</tool_call>'
ANSWER = f"<think>What is there?</think>I look. {CALL}Done"


def test_text_reasoning_and_calls_are_parts_however_tokens_divide_the_text() -> None:
    for size in range(1, len(ANSWER) + 1):
        pieces = [ANSWER[at : at + size] for at in range(0, len(ANSWER), size)]
        assert items(whole(pieces)) == [
            ("reasoning", None, "What is there?"),
            ("text", None, "I look. "),
            ("args", "look", '{"at": "}{"}'),
            ("text", None, "Done"),
        ], size


def test_what_is_held_back_belongs_to_the_unit_that_makes_it_certain() -> None:
    pieces = [
        "So ",
        "a <tool",
        "_call>",
        '\n{"name": "',
        "loo",
        'k", "arg',
        'uments": {"a"',
        ": 1}",
        "}\n</tool_call>",
    ]
    builder = make_builder(pieces)
    assert run(builder, [0]) == [ChoiceOutput(0, 0, (0,), ("So ",))]
    assert run(builder, [1, 2, 3, 4, 5]) == []
    assert run(builder, [6]) == [
        ChoiceOutput(
            0,
            1,
            (1, 2, 3, 4, 5, 6),
            ("a ", "", "", "", "", ""),
            head=Head(kind="text", chars=3),
            marks={5: (Open("look"), Args('{"a"'))},
        )
    ]
    in_call = Head(item=1, kind="args", calls=1, item_start=6, chars=5)
    assert run(builder, [7]) == [ChoiceOutput(0, 7, (7,), (": 1}",), head=in_call)]
    assert run(builder, [8]) == [ChoiceOutput(0, 8, (8,), ("",), head=in_call, marks={0: (Close(),)})]


@pytest.mark.parametrize(
    "text",
    [
        "a <tool_call",
        "<tool_call> no",
        '<tool_call>\n{"name": "lo',
        '<tool_call>\n{"name": "f", "args": 1}',
        "< think>",
    ],
)
def test_what_turns_out_to_be_no_call_or_is_cut_before_its_name_is_content(text: str) -> None:
    for size in (1, 3, 100):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert items(whole(pieces)) == [("text", None, text)]


def test_a_call_that_is_cut_within_its_arguments_stays_open() -> None:
    pieces = list(CALL[: CALL.index("}{") + 1])
    cut = whole(pieces, max_tokens=len(pieces))
    assert items(cut) == [("args", "look", '{"at": "}')]
    assert cut.finish == Finish("length") and cut.head_after.kind == "args"


def test_stop_strings_see_the_text_as_the_model_wrote_it() -> None:
    stopped = whole(list(ANSWER), stop=("</think>I",))
    assert items(stopped) == [("reasoning", None, "What is there?")]
    assert stopped.finish == Finish("stop", "</think>I")
    assert items(whole(list(ANSWER), stop=("</th",))) == [("reasoning", None, "What is there?")]


def test_without_a_format_all_text_is_content_and_an_unknown_one_is_refused() -> None:
    plain = make_builder([ANSWER], output_format=None)
    assert joined(run(plain, [0, _END])).text == ANSWER
    with pytest.raises(RequestError, match="output format hermes@2"):
        make_builder([ANSWER], output_format="hermes@2")


_PIECES = st.sampled_from(
    [
        *(
            "<think>",
            "</think>",
            "<tool_call>",
            '\n{"name": "',
            "look",
            '", "arguments": ',
            "}\n</tool_call>",
        ),
        *(
            "<",
            "think",
            ">",
            "</th",
            "ink>",
            "<tool_",
            "call>",
            '{"a": "}"',
            "{",
            "}",
            '"',
            "\n",
            "x",
            " and ",
        ),
        *(b"\xf0\x9f", b"\x8e\x89", "é"),
    ]
)
_TEXTS = st.lists(_PIECES, min_size=1, max_size=14) | st.integers(1, 9).map(
    lambda size: [ANSWER[at : at + size] for at in range(0, len(ANSWER), size)]
)
_STOPS = st.sampled_from([(), ("ink>x",), ("look",), ("}\n", "zz")])


@given(_TEXTS, _STOPS, st.integers(1, 60))
def test_a_resume_at_any_cut_gives_the_same_parts(
    pieces: list[str | bytes], stop: tuple[str, ...], max_tokens: int
) -> None:
    def fresh() -> OutputBuilder:
        return make_builder(pieces, stop=stop, max_tokens=max_tokens)

    token_ids = [*range(len(pieces)), _END]
    outputs = run(fresh(), token_ids)
    undisturbed = joined(outputs)
    # Behind the last release that does not end the choice, and before: also where nothing was released.
    for cut in range(outputs[-1].start + 1):
        so_far = _until(undisturbed, cut)
        builder = fresh()
        assert builder.replay(so_far) is None
        rest = run(builder, token_ids[cut:])
        assert joined([so_far, *rest]) == undisturbed
        assert items(joined([so_far, *rest])) == items(undisturbed)
    # Every entry begins with the state that follows from those before.
    state = Head()
    for output in outputs:
        assert output.head == state
        state = output.head_after


def _until(output: ChoiceOutput, cut: int) -> ChoiceOutput:
    marks = {at: ops for at, ops in (output.marks or {}).items() if at < cut}
    return ChoiceOutput(0, 0, output.ids[:cut], output.texts[:cut], marks=marks or None)


@given(st.lists(_PIECES, min_size=1, max_size=14))
def test_parts_do_not_depend_on_how_tokens_divide_the_text(pieces: list[str | bytes]) -> None:
    raw = b"".join(piece.encode() if isinstance(piece, str) else piece for piece in pieces)
    text = raw.decode(errors="replace")
    assert items(whole(pieces)) == items(whole([text])) == items(whole(list(text)))


class Bursting:
    """Returns scripted operations, and never holds text back."""

    def __init__(self, *bursts: Sequence[Op]) -> None:
        self._bursts = list(bursts)
        self.is_holding = False

    def push(self, text: str) -> Sequence[Op]:  # noqa: ARG002
        return self._bursts.pop(0)

    def end(self) -> Sequence[Op]:
        return ()


def test_a_unit_has_a_limit_of_operations_and_the_next_unit_has_the_rest() -> None:
    calls = [op for number in range(6) for op in (Open(f"f{number}"), Args("{}"))]
    parts = PartBuilder(Bursting(calls, (Text("x"),)))
    parts.push("a")
    assert parts.num_whole == 0
    parts.push("b")
    assert parts.num_whole == 2
    released = parts.release(2)
    assert released.marks == {0: tuple(calls[:MAX_OPS]), 1: (*calls[MAX_OPS:], Text("x"))}


def test_what_the_last_unit_has_no_room_for_is_content() -> None:
    parts = PartBuilder(Bursting([op for _ in range(9) for op in (Reasoning("r"), Text("t"))]))
    parts.push("a")
    parts.end()
    (ops,) = (parts.release(1).marks or {}).values()
    assert len(ops) == MAX_OPS and ops[-1] == Text("t" + "rt" * 5)


def test_the_splitter_of_the_tests_is_one() -> None:
    assert SPLITTERS["hermes@1"] is HermesSplitter
