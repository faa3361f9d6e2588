"""api.dialects.openai_chat.prompting: what the prompt ends with is one thing."""

from __future__ import annotations

from typing import Any

import pytest

from api.dialects.openai_chat.schema import read_chat
from shared.errors import RequestError


def kept(**fields: Any) -> dict[str, Any]:
    """What is stored of it beside what every chat has."""
    messages = [{"role": "user", "content": "hi"}]
    body = read_chat({"model": "m", "messages": messages, **fields}).to_body()
    return {name: value for name, value in body.items() if name not in ("messages", "n")}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"add_generation_prompt": False},
        {"add_generation_prompt": True, "continue_final_message": False},
        {"continue_final_message": True},
        {"continue_final_message": True, "add_generation_prompt": False},
        {"chat_template_kwargs": {"enable_thinking": False, "documents_": [{"a": None}]}},
    ],
    ids=str,
)
def test_what_was_given_is_kept(fields: dict[str, Any]) -> None:
    assert kept(**fields) == fields


def test_a_message_is_not_continued_and_answered_at_once() -> None:
    with pytest.raises(RequestError) as raised:
        kept(continue_final_message=True, add_generation_prompt=True)
    assert (raised.value.info.param, raised.value.info.code) == ("continue_final_message", "invalid_value")


def test_variables_are_bounded_together() -> None:
    kept(chat_template_kwargs={"a": "x" * 65_527})
    with pytest.raises(RequestError) as raised:
        kept(chat_template_kwargs={"a": "x" * 65_528})
    assert (raised.value.info.param, raised.value.info.code) == ("chat_template_kwargs", "invalid_value")
