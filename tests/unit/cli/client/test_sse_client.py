from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cli.client.sse_client import SseDecoder, SseEvent

STREAM = (
    'retry: 1000\nid: a.1\ndata: {"n":1}\n\n'
    ": ping\n: ping\nid: a.2\nevent: job.output\ndata: x\u2028y\x85z\n\n"
    "\r\n: only a comment\r\n\r\n"
    "id: a.3\ndata: first\ndata:second\r\n\r\ndata: [DONE]\r\r"
).encode()
EVENTS = [
    SseEvent('{"n":1}', "message", "a.1"),
    SseEvent("x\u2028y\x85z", "job.output", "a.2"),
    SseEvent("first\nsecond", "message", "a.3"),
    SseEvent("[DONE]", "message", "a.3"),
]


def decode(pieces: list[bytes]) -> list[SseEvent]:
    decoder = SseDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def test_a_whole_stream() -> None:
    # The final carriage return could be the first half of a line end; one more byte decides it.
    assert decode([STREAM, b":"]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_do_not_depend_on_where_the_bytes_are_cut(cuts: list[int]) -> None:
    borders = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(borders)]
    assert decode([*pieces, b":"]) == EVENTS


def test_an_event_that_was_cut_off_is_none_and_its_id_does_not_count() -> None:
    assert decode([b"id: 1\ndata: a\n\nid: 2\ndata: b\n"]) == [SseEvent("a", "message", "1")]
