"""A job is read strictly, its body as the chat that it is."""

from __future__ import annotations

from typing import Any

import pytest

from api.dialects.jobs.schema import read_job
from shared.errors import RequestError

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
JOB: dict[str, Any] = {"endpoint": "/v1/chat/completions", "body": CHAT}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"endpoint": "/v1/x"}, "endpoint", "invalid_value"),
        ({"endpoint": None}, "endpoint", "missing_required_parameter"),
        ({"body": []}, "body", "invalid_type"),
        ({"body": {**CHAT, "messages": []}}, "body.messages", "empty_array"),
        ({"body": {**CHAT, "n": "2"}}, "body.n", "invalid_type"),
        ({"body": {**CHAT, "tools": []}}, "body.tools", "unsupported_parameter"),
        ({"priority": "urgent!"}, "priority", "invalid_value"),
        ({"on_disconnect": "x"}, "on_disconnect", "invalid_value"),
        ({"expires_after": -1}, "expires_after", "decimal_below_min_value"),
        ({"expires_after": 1e18}, "expires_after", "decimal_above_max_value"),
        ({"cancel_after": "5"}, "cancel_after", "invalid_type"),
        ({"webhook": {"url": "http://x"}}, "webhook", "unsupported_parameter"),
        ({"metadata": {"a": "b"}, "body": {**CHAT, "metadata": {}}}, "metadata", "invalid_value"),
        ({"foo": 1}, "foo", "unknown_parameter"),
    ],
)
def test_each_fault_is_named(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_job({**JOB, **fields})
    assert (caught.value.info.param, caught.value.info.code) == (param, code)


def test_what_is_asked_for() -> None:
    job, chat = read_job({**JOB, "priority": "high", "expires_after": 5, "webhook": None})
    assert (job.priority, job.on_disconnect, job.expires_after, chat.model) == ("high", "continue", 5.0, "m")
