"""docs/compatibility.md is generated from the schemas, and its statements are true."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import openai.types.chat.completion_create_params as official
import openai.types.completion_create_params as official_completions
import pytest
from openai.types.chat import ChatCompletionStreamOptionsParam

from api.dialects.openai_chat.message import Message
from api.dialects.openai_chat.schema import ChatRequest, WithoutEffect, read_chat
from api.dialects.openai_chat.unsupported import (
    UNSUPPORTED,
    UNSUPPORTED_IN_MESSAGE,
)
from api.dialects.openai_completions.schema import CompletionRequest
from api.dialects.openai_completions.unsupported import UNSUPPORTED as UNSUPPORTED_IN_COMPLETIONS
from api.dialects.parameters.stream_options import StreamOptions
from api.dialects.parameters.structured_outputs import (
    UNSUPPORTED_IN_STRUCTURED_OUTPUTS,
    NamedSchema,
    ResponseFormat,
    StructuredOutputs,
)
from api.http.validation import names_of
from shared.errors import RequestError
from tools.docs.compatibility import RECOMMENDED, page
from workers.requests.generation_defaults import Defaults

PAGE = Path(__file__).parents[4] / "docs" / "compatibility.md"
HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
#: For each supported parameter: values within its bounds, values beyond them, and other fields that it needs.
BOUNDS: dict[str, tuple[list[Any], list[Any], dict[str, Any]]] = {
    "top_k": ([-1, 0, 2**31 - 1], [-2, 2**31], {}),
    "min_p": ([0, 1], [-0.1, 1.1], {}),
    "repetition_penalty": ([0.01, 2], [0, 2.1], {}),
    "min_tokens": ([0, 2**31 - 1], [-1, 2**31], {}),
    "stop_token_ids": ([[], [0, 2**31 - 1], [1] * 128], [[-1], [2**31], [1] * 129], {}),
    "ignore_eos": ([True, False], [1], {}),
    "prompt_logprobs": ([0, 20], [-1, 21], {}),
    "include_stop_str_in_output": ([True, False], [1], {}),
    "skip_special_tokens": ([True, False], [0], {}),
    "allowed_token_ids": ([[0, 2**31 - 1], [1] * 16_384], [[], [-1], [2**31], [1] * 16_385], {}),
    "bad_words": ([[], ["a" * 256] * 128], [[""], ["a" * 257], ["a"] * 129], {}),
    "add_generation_prompt": ([True, False], [1], {}),
    "continue_final_message": ([True, False], [1], {}),
    "chat_template_kwargs": (
        [{}, dict.fromkeys(map(str, range(64)))],
        [dict.fromkeys(map(str, range(65)))],
        {},
    ),
    "max_tokens": ([1, 2**31 - 1], [0, 2**31], {}),
    "max_completion_tokens": ([1, 2**31 - 1], [0, 2**31], {}),
    "temperature": ([0, 2], [-0.1, 2.1], {}),
    "top_p": ([0, 1], [-0.1, 1.1], {}),
    "reasoning_effort": (["none", "max"], ["", "huge"], {}),
    "seed": ([-(2**63), 2**63 - 1], [-(2**63) - 1, 2**63], {}),
    "stop": (["a", ["a" * 1024] * 4, []], ["", ["a"] * 5, ["a" * 1025]], {}),
    "presence_penalty": ([-2, 2], [-2.1, 2.1], {}),
    "frequency_penalty": ([-2, 2], [-2.1, 2.1], {}),
    "logit_bias": ([{}, {"0": -100, "4294967296": 100}], [{"0": 101}, {"a": 1}], {}),
    "logprobs": ([True, False], [1], {}),
    "top_logprobs": ([0, 20], [-1, 21], {"logprobs": True}),
    "n": ([1, 16], [0, 17], {}),
    "response_format": ([{"type": "json_object"}], [{"type": "yaml"}], {}),
    "structured_outputs": ([{"regex": "a"}], [{"regex": ""}, {}], {}),
    "model": (["m"], [""], {}),
    "messages": ([HELLO["messages"] * 4096], [[], [*HELLO["messages"]] * 4097], {}),
    "stream": ([True, False], [1], {}),
    "stream_options": ([{"include_usage": True}], [{"include_usage": 1}], {"stream": True}),
    "metadata": ([{"k" * 64: "v" * 512}], [{"k" * 65: ""}, {"k": "v" * 513}], {}),
}


def rows(part: str) -> set[str]:
    """The parameters in the table of one section of the page."""
    text = re.split(r"\n##+ ", page().split(f"# {part}\n")[1])[0]
    return set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))


def test_the_page_is_what_the_schemas_make() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"


def test_every_parameter_has_its_place() -> None:
    assert rows("Supported") == set(BOUNDS) == set(ChatRequest.model_fields) - set(WithoutEffect.model_fields)
    assert rows("Accepted without effect") == set(WithoutEffect.model_fields)
    assert rows("Rejected by name") == set(UNSUPPORTED)
    assert rows("In a message") == set(Message.model_fields) | set(UNSUPPORTED_IN_MESSAGE)
    assert rows("In `stream_options`") == set(StreamOptions.model_fields)
    outputs = names_of(StructuredOutputs) | set(UNSUPPORTED_IN_STRUCTURED_OUTPUTS)
    assert rows("In `structured_outputs`") == outputs
    assert rows("In `response_format`") == names_of(ResponseFormat)
    assert rows("In `response_format.json_schema`") == names_of(NamedSchema)
    assert not set(ChatRequest.model_fields) & set(UNSUPPORTED)


def test_every_parameter_of_a_completion_has_its_place() -> None:
    own, idle = rows("Supported in completions"), rows("Accepted without effect in completions")
    same = set(re.findall(r"`(\w+)`", page().split("same as in a chat: ")[1].splitlines()[0]))
    assert own | idle | same == set(CompletionRequest.model_fields) and not own & same
    assert {"prompt", "echo", "best_of", "suffix", "max_tokens", "logprobs"} <= own
    assert rows("Rejected by name in completions") == set(UNSUPPORTED_IN_COMPLETIONS)


def test_every_parameter_of_the_official_client_is_known() -> None:
    of_completions = set(official_completions.CompletionCreateParamsBase.__annotations__) | {"stream"}
    assert of_completions <= set(CompletionRequest.model_fields) | set(UNSUPPORTED_IN_COMPLETIONS)
    names = set(official.CompletionCreateParamsBase.__annotations__) | {"stream"}
    assert names <= set(ChatRequest.model_fields) | set(UNSUPPORTED)
    options = set(ChatCompletionStreamOptionsParam.__annotations__)
    assert options <= set(StreamOptions.model_fields)


@pytest.mark.parametrize("name", BOUNDS)
def test_a_supported_parameter_is_accepted_within_its_bounds(name: str) -> None:
    inside, outside, needs = BOUNDS[name]
    for value in inside:
        read_chat({**HELLO, **needs, name: value})
    for value in outside:
        with pytest.raises(RequestError) as caught:
            read_chat({**HELLO, **needs, name: value})
        param = caught.value.info.param or ""
        assert re.split(r"[.\[]", param)[0] == name and caught.value.info.status == 400


def test_the_recommended_defaults_are_those_that_a_worker_reads() -> None:
    assert {field.name for field in dataclasses.fields(Defaults)} == RECOMMENDED
