from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.chat.conversation import Conversation
from cli.chat.session import ChatSession
from tests.unit.cli.chat_server import ChatServer


def run(server: ChatServer, *lines: str | type[BaseException], keep: Path | None = None) -> Conversation:
    """Runs a session with these lines. An exception in the list is raised by the terminal."""
    waiting: Iterator[str | type[BaseException]] = iter(lines)

    def read() -> str:
        line = next(waiting, EOFError)
        if isinstance(line, str):
            return line
        raise line

    conversation = Conversation(server.client, {"model": "m"}, None)
    ChatSession(conversation, read, keep).run()
    return conversation


def test_what_is_set_goes_with_the_next_question() -> None:
    server = ChatServer("One", "Two")
    run(
        server,
        "/system be brief",
        "/set temperature 0.2",
        '/set stop ["a"]',
        "q",
        "/set stop",
        "/system",
        "r",
    )
    first, second = server.asked
    assert (first["temperature"], first["stop"]) == (0.2, ["a"])
    assert first["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "q"}]
    assert "stop" not in second and [m["role"] for m in second["messages"]] == ["user", "assistant", "user"]


def test_reset_forgets_what_was_said_and_keeps_what_was_set() -> None:
    server = ChatServer("One", "Two")
    run(server, "/set seed 7", "q", "/reset", "r")
    assert server.asked[1]["messages"] == [{"role": "user", "content": "r"}] and server.asked[1]["seed"] == 7


def test_what_is_set_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    run(ChatServer(), "/set top_k 5", "/set", "/help")
    out = capsys.readouterr().out
    assert out.startswith('model "m"\ntop_k 5\n') and "/save FILE" in out


@pytest.mark.parametrize("line", ["/nonsense", "/save", "/set stream true", "/set model", "/save /none/x"])
def test_what_cannot_be_done_is_told_and_the_session_goes_on(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server = ChatServer("One")
    run(server, line, "q")
    assert len(server.asked) == 1
    assert capsys.readouterr().err.startswith("[")


def test_a_failed_question_leaves_the_session() -> None:
    server = ChatServer()
    assert run(server, "q", "r").messages == []
    assert len(server.asked) == 2


def test_exit_and_the_end_of_input_leave() -> None:
    server = ChatServer("One")
    run(server, "", "  ", "/exit", "q")
    assert server.asked == []


def test_two_slashes_ask_something_that_begins_with_one() -> None:
    server = ChatServer("One")
    run(server, "//set")
    assert server.asked[0]["messages"] == [{"role": "user", "content": "/set"}]


def test_ctrl_c_leaves_only_when_it_comes_twice() -> None:
    server = ChatServer("One")
    run(server, KeyboardInterrupt, "q", KeyboardInterrupt, "")
    assert len(server.asked) == 1
    with pytest.raises(KeyboardInterrupt):
        run(server, KeyboardInterrupt, KeyboardInterrupt)


def test_it_is_kept_after_each_turn(tmp_path: Path) -> None:
    path = tmp_path / "last.json"
    run(ChatServer("One"), "q", keep=path)
    assert [message["content"] for message in json.loads(path.read_text())["messages"]] == ["q", "One"]
