"""What is compared of a request is its body as it was sent, without how the answer is shown."""

from __future__ import annotations

from api.http.idempotency import comparable


def test_how_an_answer_is_shown_is_not_compared() -> None:
    shown = {"stream": True, "stream_options": {"include_usage": True}}
    assert comparable({"model": "m", "foo": None, **shown}) == {"model": "m", "foo": None}
    assert comparable({"endpoint": "x", "body": {"a": 1, **shown}}) == {"endpoint": "x", "body": {"a": 1}}
    assert comparable({"body": "text", "metadata": {"stream": "x"}}) == {
        "body": "text",
        "metadata": {"stream": "x"},
    }
