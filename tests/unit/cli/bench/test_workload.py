"""Equal numbers give equal chats; others differ from the first word on. Lengths are as requested."""

from __future__ import annotations

import json

import pytest

from cli.bench.workload import Lengths, Workload


def test_the_same_number_is_the_same_chat() -> None:
    workload = Workload(Lengths(32, 32), Lengths(8, 8))
    assert workload.body("m", 7) == workload.body("m", 7)
    texts = [json.loads(workload.body("m", number))["messages"][0]["content"] for number in range(50)]
    assert len({text.split()[0] for text in texts}) == 50


def test_lengths_are_drawn_between_both_ends() -> None:
    workload = Workload(Lengths(16, 64), Lengths(1, 3))
    bodies = [json.loads(workload.body("m", number)) for number in range(200)]
    assert {body["max_tokens"] for body in bodies} == {1, 2, 3}
    words = {len(body["messages"][0]["content"].split()) for body in bodies}
    assert (min(words), max(words)) == (9, 57)


def test_fields_may_be_added_and_left_out() -> None:
    extra = {"temperature": 0, "max_tokens": None, "max_completion_tokens": 5}
    body = json.loads(Workload(Lengths(8, 8), Lengths(9, 9), extra=extra).body("m", 0))
    del body["messages"]
    assert body == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "max_completion_tokens": 5,
    }


@pytest.mark.parametrize(("text", "lengths"), [("5", Lengths(5, 5)), ("5-9", Lengths(5, 9))])
def test_lengths_are_read_and_written(text: str, lengths: Lengths) -> None:
    assert Lengths.parse(text) == lengths
    assert str(lengths) == text


@pytest.mark.parametrize("text", ["", "0", "9-5", "a", "5-", "-5", "1-2-3"])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Lengths.parse(text)
