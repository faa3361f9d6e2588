from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.chat.conversation import Conversation
from cli.errors import CommandError
from tests.unit.cli.chat_server import ChatServer

SYSTEM = {"role": "system", "content": "be brief"}


def said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def test_each_turn_knows_those_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    server = ChatServer("One", "Two")
    conversation = Conversation(server.client, {"model": "m", "temperature": 0}, "be brief")
    conversation.ask("a")
    conversation.ask("b")
    assert server.asked[1] == {
        "model": "m",
        "temperature": 0,
        "messages": [SYSTEM, said("user", "a"), said("assistant", "One"), said("user", "b")],
        "stream": True,
    }
    assert capsys.readouterr().out == "One\nTwo\n"
    with pytest.raises(CommandError, match="no more"):
        conversation.ask("c")
    assert [message["content"] for message in conversation.messages] == ["a", "One", "b", "Two"]


def test_a_saved_one_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    server = ChatServer("One", "Two")
    first = Conversation(server.client, {"model": "m", "top_k": 2, "seed": 1}, "be brief")
    first.ask("é")
    first.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["messages"] == [SYSTEM, said("user", "é"), said("assistant", "One")]
    second = Conversation(server.client, {"model": "m", "seed": 5}, None)
    second.load(path)
    second.ask("b")
    assert server.asked[1] == {
        "model": "m",
        "top_k": 2,
        "seed": 5,
        "messages": [SYSTEM, said("user", "é"), said("assistant", "One"), said("user", "b")],
        "stream": True,
    }


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"messages": 3}', '{"messages": [{"role": "user"}]}'])
def test_what_is_no_conversation_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "chat.json"
    path.write_text(text)
    conversation = Conversation(ChatServer().client, {}, None)
    with pytest.raises(CommandError, match="is not a saved conversation"):
        conversation.load(path)
    with pytest.raises(CommandError, match=r"cannot read .*other: No such file"):
        conversation.load(tmp_path / "other")
    with pytest.raises(CommandError, match="cannot write"):
        conversation.save(tmp_path / "none" / "chat.json")
