"""Events survive the way through Redis; anything else is a DecodeError."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.events import (
    Cancelled,
    Candidate,
    ChoiceOutput,
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
    TokenLogprobs,
    decode_entry,
    decode_event,
    decode_positions,
    encode_event,
    encode_positions,
    event_type,
)
from shared.errors import DecodeError, ErrorInfo
from tests.unit.shared.domain.test_prompt_logprobs import TOLD

LOGPROBS = (
    TokenLogprobs(Candidate(1, b"\xc3", -0.5), (Candidate(1, b"\xc3", -0.5), Candidate(9, b" a", -2.25))),
    TokenLogprobs(Candidate(2, b"\xa9", -3.0), ()),
)
EVENTS: list[Event] = [
    Queued(),
    Started("worker-1"),
    Resumed("worker-2", 3),
    Requeued("drain"),
    Output((ChoiceOutput(0, 4, (1, 2), ("a", 'b"\n'), "stop"), ChoiceOutput(1, 0, (), ()))),
    Output((ChoiceOutput(0, 4, (1, 2), ("", "é"), None, LOGPROBS),)),
    Output((ChoiceOutput(0, 0, (1, 2), ("", "é"), "stop", LOGPROBS, TOLD), ChoiceOutput(1, 0, (1,), ("a",)))),
    Output((ChoiceOutput(0, 0, (1,), ("a",), None, None, TOLD),)),
    Completed(7),
    Incomplete(7),
    Failed(ErrorInfo("too long", "invalid_request_error", "messages", "context_length_exceeded", 400), 9),
    Cancelled("reader_gone", 7),
    Expired(),
]


@pytest.mark.parametrize("event", EVENTS, ids=event_type)
def test_an_event_decodes_to_itself(event: Event) -> None:
    assert decode_event(encode_event(event)) == event


@pytest.mark.parametrize(
    "raw", ["", "{", "[]", "{}", '{"type":"nothing"}', '{"type":"output"}', '{"type":"started"}']
)
def test_anything_else_is_a_decode_error_that_holds_it(raw: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_event(raw)
    assert caught.value.raw == raw


def test_what_a_later_version_tells_besides_is_left_out() -> None:
    raw = '{"type":"started","worker":"w","mood":"good"}'
    assert decode_event(raw) == Started("w")


def test_terminal_events_end_a_stream() -> None:
    ends = [event_type(event) for event in EVENTS if Entry("1-0", (0,), event).is_terminal]
    assert ends == ["completed", "incomplete", "failed", "cancelled", "expired"]


def test_an_entry_is_its_id_its_positions_and_its_event() -> None:
    entry = decode_entry("2-5", {"end": "12,7", "e": '{"type":"queued"}'})
    assert entry == Entry("2-5", (12, 7), Queued())
    assert entry.completion_tokens == 19


@given(st.lists(st.integers(0, 10**6), min_size=1).map(tuple))
def test_positions_survive_their_text(positions: tuple[int, ...]) -> None:
    assert decode_positions(encode_positions(positions)) == positions


@given(st.lists(st.tuples(st.integers(0, 9), st.text(max_size=3))), st.integers(0, 20), st.data())
def test_an_output_cut_anywhere_joins_again(
    tokens: list[tuple[int, str]], start: int, data: st.DataObject
) -> None:
    ids, texts = tuple(t for t, _ in tokens), tuple(x for _, x in tokens)
    logprobs = tuple(TokenLogprobs(Candidate(t, x.encode(), -1.0), ()) for t, x in tokens)
    whole = ChoiceOutput(0, start, ids, texts, "length", data.draw(st.sampled_from([None, logprobs])))
    cut = data.draw(st.integers(start, whole.end))
    rest = whole.since(cut)
    num = cut - start
    told = None if whole.logprobs is None else whole.logprobs[:num]
    head = ChoiceOutput(0, start, ids[:num], texts[:num], logprobs=told)
    assert rest.start == cut
    assert head.joined(rest) == whole


def test_what_is_told_of_the_prompt_goes_with_the_first_token() -> None:
    whole = ChoiceOutput(0, 0, (1, 2), ("a", "b"), prompt_logprobs=TOLD)
    assert whole.since(0) == whole
    assert whole.since(1) == ChoiceOutput(0, 1, (2,), ("b",))
    assert ChoiceOutput(0, 0, (1,), ("a",), prompt_logprobs=TOLD).joined(whole.since(1)) == whole


def test_what_lies_behind_the_end_is_empty() -> None:
    assert ChoiceOutput(0, 3, (1,), ("a",), "stop").since(9) == ChoiceOutput(0, 4, (), (), "stop")
