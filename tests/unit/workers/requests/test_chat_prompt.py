"""ChatPromptRenderer: which templates it refuses, and in which form it gives them a message's content."""

from __future__ import annotations

import pytest

from shared.domain.request import ChatMessage, ChatPrompt
from tests.models import byte_tokenizer
from workers.requests import chat_prompt
from workers.requests.chat_prompt import ChatPromptRenderer, UnusableChatTemplate

PARTS = "{% for m in messages %}{% for part in m['content'] %}{{ part['text'] }}|{% endfor %}{% endfor %}"
SYSTEM_FIRST = (
    "{% if messages[0]['role'] != 'system' %}{{ raise_exception('system first') }}{% endif %}"
    "{% for m in messages %}{{ m['content'] }}{% endfor %}"
)


def renderer(template: str) -> ChatPromptRenderer:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return ChatPromptRenderer(tokenizer)


@pytest.mark.parametrize(
    "template",
    [
        "{{",
        "{{ messages | nope }}",
        "{{ 1 / 0 }}",
        "{{ messages[99].content }}",
        "{{ raise_exception('no') }}",
        "plain",
        "{% for m in messages %}{{ m['content'] | length }}{% endfor %}",
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{{ " + "(" * 5000 + ")" * 5000 + " }}",
    ],
)
def test_a_template_that_renders_no_chat_is_refused_by_name(template: str) -> None:
    with pytest.raises(UnusableChatTemplate, match=r"chat_template\.jinja"):
        renderer(template).check()


def test_a_template_that_does_not_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_prompt, "_TEMPLATE_S", 0.2)
    loops = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    subject = renderer(loops)
    assert subject.end_token_ids == {byte_tokenizer().eos_token_id}
    with pytest.raises(UnusableChatTemplate, match=r"does not end within 0\.2 s"):
        subject.check()


def test_a_template_may_want_a_system_message_first() -> None:
    renderer(SYSTEM_FIRST).check()


def test_a_template_that_iterates_parts_is_given_parts() -> None:
    prompt = ChatPrompt((ChatMessage("user", "hello"), ChatMessage("assistant", "there")))
    assert renderer(PARTS).render(prompt) == "hello|there|"
