"""The length of prompts after the model's template is applied."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.peers.weights.prompts import Prompts
from tests.models import write_tiny_model
from tests.tiny_chat_model import make_tiny_chat_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_chat_model(tmp_path_factory.mktemp("prompts") / "model")


def test_every_prompt_has_the_tokens_that_were_asked_for_and_begins_in_its_own_way(model: Path) -> None:
    chats = Prompts(model, 40).chats(5, 12)
    assert {len(chat.token_ids) for chat in chats} == {40}
    assert len({chat.messages[1]["content"] for chat in chats}) == 12
    assert [message["role"] for message in chats[0].messages] == ["system", "user"]
    assert Prompts(model, 40).chats(5, 12) == chats


def test_a_template_that_is_longer_than_the_prompt_is_refused(model: Path) -> None:
    with pytest.raises(ValueError, match="cannot make a chat of 6 tokens"):
        Prompts(model, 6).chats(0, 1)


def test_a_tokenizer_without_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no word that is a single token"):
        Prompts(write_tiny_model(tmp_path / "bytes"), 40)
