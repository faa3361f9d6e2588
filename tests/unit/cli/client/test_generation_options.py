from __future__ import annotations

import pytest

from cli.client.generation_options import GenerationOptions, messages_of, pair_of, read_value
from cli.errors import CommandError
from tests.unit.cli.chat_server import ChatServer


def test_what_is_not_given_is_left_to_the_server() -> None:
    assert GenerationOptions(system="be brief", stop=[], set=[]).body(ChatServer().client) == {"model": "m"}
    asking = GenerationOptions(
        model="x", temperature=0.0, top_k=3, stop=["END"], set=['logit_bias={"5": 1}', "user=me"]
    )
    assert asking.body(ChatServer().client) == {
        "model": "x",
        "temperature": 0.0,
        "top_k": 3,
        "stop": ["END"],
        "logit_bias": {"5": 1},
        "user": "me",
    }


def test_values_are_json_or_text() -> None:
    assert [read_value(text) for text in ("0.2", "true", '["a"]', "a b", "")] == [0.2, True, ["a"], "a b", ""]


def test_a_pair_may_hold_further_signs_of_equality() -> None:
    assert pair_of("a=b=c", "--metadata") == ("a", "b=c")
    for text in ("a", "=b", ""):
        with pytest.raises(CommandError, match="--metadata"):
            pair_of(text, "--metadata")


def test_the_first_turn() -> None:
    question = {"role": "user", "content": "hi"}
    assert messages_of(None, "hi") == [question]
    assert messages_of("be brief", "hi") == [{"role": "system", "content": "be brief"}, question]
