"""Events survive the way through Redis; anything else is a DecodeError."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.events import (
    Cancelled,
    Completed,
    Entry,
    Event,
    Expired,
    Failed,
    Incomplete,
    Output,
    Queued,
    Requeued,
    Resumed,
    Started,
    Unknown,
    decode_entry,
    decode_event,
    decode_positions,
    encode_event,
    encode_positions,
    event_type,
)
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
    Refusal,
    Text,
    TokenLogprobs,
)
from shared.domain.usage import Usage
from shared.errors import DecodeError, ErrorInfo
from tests.unit.shared.domain.test_prompt_logprobs import PROMPT_LOGPROBS

LOGPROBS = (
    TokenLogprobs(Candidate(1, b"\xc3", -0.5), (Candidate(1, b"\xc3", -0.5), Candidate(9, b" a", -2.25))),
    TokenLogprobs(Candidate(2, b"\xa9", -3.0), ()),
)
STOP = Finish("stop", "\n")
MARKS: dict[int, tuple[object, ...]] = {
    0: (Reasoning("hm"), Close(), Text("a"), Refusal("no")),
    1: (Open("f", "call_1"), Args("{}"), Data("signature", "x"), Close()),
}
EVENTS: list[Event] = [
    Queued(),
    Started("worker-1"),
    Resumed("worker-2", 3),
    Requeued("drain"),
    Output((ChoiceOutput(0, 4, (1, 2), ("a", 'b"\n'), STOP), ChoiceOutput(1, 0, (), ()))),
    Output((ChoiceOutput(0, 4, (1, 2), ("", "é"), None, LOGPROBS),)),
    Output((ChoiceOutput(0, 0, None, ("a", "b"), Finish("length"), None, Head(2, "reasoning", 1, 7, 9)),)),
    Output((ChoiceOutput(0, 0, (1, 2), ("", ""), marks=MARKS),)),  # type: ignore[arg-type]
    Output(
        (
            ChoiceOutput(0, 0, (1, 2), ("", "é"), STOP, LOGPROBS, prompt_logprobs=PROMPT_LOGPROBS),
            ChoiceOutput(1, 0, (1,), ("a",)),
        )
    ),
    Completed(),
    Incomplete(),
    Failed(ErrorInfo("too long", "invalid_request_error", "messages", "context_length_exceeded", 400)),
    Cancelled("reader_gone"),
    Expired(),
]


@pytest.mark.parametrize("event", EVENTS, ids=event_type)
def test_an_event_decodes_to_itself(event: Event) -> None:
    assert decode_event(encode_event(event)) == event
    assert decode_event(encode_event(event).encode()) == event


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"type":1}',
        '{"type":"output"}',
        '{"type":"started"}',
        b'{"type":"queued","x":"\xff"',
    ],
)
def test_anything_else_is_a_decode_error_that_holds_it(raw: str | bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_event(raw)
    assert caught.value.raw == raw


def test_an_event_of_a_newer_version_is_known_by_its_name() -> None:
    event = decode_event('{"type":"dreamt","of":["sheep"]}')
    assert event == Unknown("dreamt") and event_type(event) == "dreamt"
    assert not Entry("1-0", (0,), event).is_terminal


def test_an_operation_of_a_newer_version_is_a_decode_error() -> None:
    """To leave it out would lose text."""
    with pytest.raises(DecodeError):
        decode_event('{"type":"output","choices":[[0,0,[1],[""],null,null,[],{"0":[["sing","la"]]}]]}')


def test_fields_of_a_newer_version_are_ignored() -> None:
    raw = '{"type":"started","worker":"w","mood":"good"}'
    assert decode_event(raw) == Started("w")


def test_terminal_events_end_a_stream() -> None:
    ends = [event_type(event) for event in EVENTS if Entry("1-0", (0,), event).is_terminal]
    assert ends == ["completed", "incomplete", "failed", "cancelled", "expired"]


def test_an_entry_is_its_id_its_positions_its_usage_and_its_event() -> None:
    fields = {"end": "12,7", "used": "5,19,2,1", "e": '{"type":"queued"}'}
    assert decode_entry("2-5", fields) == Entry("2-5", (12, 7), Queued(), Usage(5, 19, 2, 1))
    del fields["used"]
    assert decode_entry("2-5", fields) == Entry("2-5", (12, 7), Queued(), Usage())


@pytest.mark.parametrize("missing", ["end", "e"])
def test_half_an_entry_is_a_decode_error(missing: str) -> None:
    fields = {"end": "0", "used": "", "e": '{"type":"queued"}'}
    with pytest.raises(DecodeError):
        decode_entry("1-0", {name: value for name, value in fields.items() if name != missing})


@given(st.lists(st.integers(0, 10**6), min_size=1).map(tuple))
def test_positions_survive_their_text(positions: tuple[int, ...]) -> None:
    assert decode_positions(encode_positions(positions)) == positions


def test_other_text_is_no_positions() -> None:
    with pytest.raises(DecodeError):
        decode_positions("1,x")
