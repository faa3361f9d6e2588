"""A request is stored without what has its default, and says which version it takes to honour it."""

from __future__ import annotations

import json

import msgspec
import pytest

from shared.domain import request as request_module
from shared.domain.constraint import Constraint
from shared.domain.request import (
    READER_VERSION,
    ChatMessage,
    ChatPrompt,
    GenerationRequest,
    SamplingOptions,
    TextPrompt,
    TokenPrompt,
)
from shared.errors import DecodeError

CHAT = ChatPrompt(
    (ChatMessage("user", "hi"), ChatMessage("assistant", "é", "bob")), template_variables={"a": [1]}
)
REQUESTS = [
    GenerationRequest((CHAT,)),
    GenerationRequest((TextPrompt("a"), TokenPrompt((1, 2))), n=3),
    GenerationRequest((msgspec.structs.replace(CHAT, continue_final_message=True, reasoning_effort="low"),)),
    GenerationRequest(
        (TextPrompt(""),),
        sampling=SamplingOptions(0.5, seed=2**62, stop=("x",), logit_bias={7: -1.5}, logprobs=0),
        constraint=Constraint("regex", "a", "structured_outputs.regex"),
    ),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_decodes_to_itself(request_: GenerationRequest) -> None:
    assert GenerationRequest.decode(request_.encode()) == request_


def test_it_is_written_so_and_read_with_what_is_new() -> None:
    raw = '{"prompts":[{"kind":"text","text":"a"}],"sampling":{"temperature":0.5}}'
    request = GenerationRequest((TextPrompt("a"),), sampling=SamplingOptions(0.5))
    assert request.encode() == raw
    later = json.loads(raw) | {"mood": "good"}
    later["sampling"]["mood"] = later["prompts"][0]["mood"] = "good"
    assert GenerationRequest.decode(json.dumps(later)) == request


@pytest.mark.parametrize(
    "raw", ["", "[]", "{}", '{"prompts":[{"kind":"song"}]}', '{"prompts":[],"sampling":{"seed":"x"}}']
)
def test_anything_else_is_a_decode_error(raw: str) -> None:
    with pytest.raises(DecodeError):
        GenerationRequest.decode(raw)


def test_each_prompt_has_n_choices() -> None:
    assert [request.num_choices for request in REQUESTS] == [1, 6, 1, 1]


def test_every_request_of_this_version_can_be_read_by_it() -> None:
    assert {request.needs for request in REQUESTS} <= set(range(1, READER_VERSION + 1))


@pytest.mark.parametrize(
    ("since", "needs"),
    [
        ({}, [1, 1, 1, 1]),
        ({("SamplingOptions", "seed"): 3}, [1, 1, 1, 3]),
        ({("ChatPrompt", "reasoning_effort"): 2, ("ChatMessage", "name"): 4}, [4, 1, 4, 1]),
        ({("ChatPrompt", "reasoning_effort"): 5, ("GenerationRequest", "n"): 2}, [1, 2, 5, 1]),
    ],
)
def test_a_request_needs_the_newest_version_of_what_it_uses(
    monkeypatch: pytest.MonkeyPatch, since: dict[tuple[str, str], int], needs: list[int]
) -> None:
    """What has its default is not used."""
    monkeypatch.setattr(request_module, "_SINCE", since)
    assert [request.needs for request in REQUESTS] == needs
