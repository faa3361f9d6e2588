"""A job is read strictly, its body as its endpoint's dialect reads it."""

from __future__ import annotations

from typing import Any

import pytest

from api.app import DIALECTS
from api.dialects.jobs.dialect import Jobs, ParsedJob
from api.dialects.jobs.schema import JobRequest
from api.dialects.openai_chat.dialect import OpenAIChat
from shared.errors import RequestError

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
JOB: dict[str, Any] = {"endpoint": "/v1/chat/completions", "body": CHAT}
JOBS = Jobs(DIALECTS)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"endpoint": "/v1/x"}, "endpoint", "invalid_value"),
        ({"endpoint": None}, "endpoint", "missing_required_parameter"),
        ({"body": []}, "body", "invalid_type"),
        ({"body": {**CHAT, "messages": []}}, "body.messages", "empty_array"),
        ({"body": {**CHAT, "n": "2"}}, "body.n", "invalid_type"),
        ({"body": {**CHAT, "tools": [{}]}}, "body.tools", "unsupported_parameter"),
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
        JOBS.parse({**JOB, **fields})
    assert (caught.value.info.param, caught.value.info.code) == (param, code)


def test_a_chats_body_belongs_under_body() -> None:
    with pytest.raises(RequestError, match="Put it under 'body'") as caught:
        JOBS.parse(CHAT)
    assert caught.value.info.param == "body"


def test_what_is_asked_for() -> None:
    asked = {"priority": "high", "expires_after": 5, "on_disconnect": "cancel", "webhook": None}
    expected = JobRequest(**JOB, priority="high", expires_after=5.0, on_disconnect="cancel")
    assert JOBS.parse({**JOB, **asked}) == ParsedJob(expected, OpenAIChat().parse(CHAT))
