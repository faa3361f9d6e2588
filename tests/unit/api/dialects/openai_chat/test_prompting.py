"""The chat template is told what the prompt ends with, and its variables."""

from __future__ import annotations

from typing import Any

import pytest

from api.dialects.openai_chat.schema import read_chat
from shared.domain.request import ChatMessage, ChatPrompt
from shared.errors import RequestError

MESSAGES = (ChatMessage("user", "hi"),)


def prompt(**fields: Any) -> ChatPrompt:
    messages = [{"role": "user", "content": "hi"}]
    (found,) = read_chat({"model": "m", "messages": messages, **fields}).request().prompts
    assert isinstance(found, ChatPrompt)
    return found


VARIABLES = {"enable_thinking": False, "documents_": [{"a": None}]}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ChatPrompt(MESSAGES)),
        ({"add_generation_prompt": False}, ChatPrompt(MESSAGES, add_generation_prompt=False)),
        ({"add_generation_prompt": True, "continue_final_message": False}, ChatPrompt(MESSAGES)),
        (
            {"continue_final_message": True},
            ChatPrompt(MESSAGES, add_generation_prompt=False, continue_final_message=True),
        ),
        ({"chat_template_kwargs": VARIABLES}, ChatPrompt(MESSAGES, template_variables=VARIABLES)),
        ({"reasoning_effort": "low"}, ChatPrompt(MESSAGES, reasoning_effort="low")),
        ({"reasoning_effort": None, "chat_template_kwargs": None}, ChatPrompt(MESSAGES)),
    ],
    ids=str,
)
def test_what_was_given_is_in_the_prompt(fields: dict[str, Any], expected: ChatPrompt) -> None:
    assert prompt(**fields) == expected


def test_a_message_is_not_continued_and_answered_at_once() -> None:
    with pytest.raises(RequestError) as raised:
        prompt(continue_final_message=True, add_generation_prompt=True)
    assert raised.value.info.param == "continue_final_message"


def test_variables_are_bounded_together() -> None:
    prompt(chat_template_kwargs={"a": "x" * 65_527})
    with pytest.raises(RequestError) as raised:
        prompt(chat_template_kwargs={"a": "x" * 65_528})
    assert (raised.value.info.param, raised.value.info.code) == ("chat_template_kwargs", "invalid_value")
