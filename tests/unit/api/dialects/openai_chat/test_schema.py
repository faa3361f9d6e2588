"""A chat is read strictly: each fault is named, and what is asked for is in the request."""

from __future__ import annotations

from typing import Any

import pytest

from api.dialects.base import Parsed
from api.dialects.openai_chat.dialect import OpenAIChat
from api.dialects.openai_chat.message import MessageWithoutEffect
from api.dialects.openai_chat.schema import WithoutEffect
from api.dialects.openai_chat.unsupported import UNSUPPORTED, UNSUPPORTED_IN_MESSAGE
from shared.domain.request import ChatMessage, ChatPrompt, GenerationRequest, SamplingOptions
from shared.errors import RequestError

HELLO = [{"role": "user", "content": "hi"}]
PROMPT = ChatPrompt((ChatMessage("user", "hi"),))


def read(**fields: Any) -> Parsed:
    return OpenAIChat().parse({"model": "m", "messages": HELLO, **fields})


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": ["hi"]}, "messages[0]", "invalid_type"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
        ({"messages": [*HELLO, {"role": "user", "content": [5]}]}, "messages[1].content[0]", "invalid_type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
            "invalid_value",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "tool_calls": [{}]}]},
            "messages[0].tool_calls",
            "unsupported_parameter",
        ),
        ({"messages": [{**HELLO[0], "name": 5}]}, "messages[0].name", "invalid_type"),
        (
            {"messages": [{**HELLO[0], "reasoning_content": 5}]},
            "messages[0].reasoning_content",
            "invalid_type",
        ),
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": 5}, "model", "invalid_type"),
        ({"model": ""}, "model", "empty_string"),
        ({"max_tokens": "5"}, "max_tokens", "invalid_type"),
        ({"max_tokens": True}, "max_tokens", "invalid_type"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"max_tokens": -1}, "max_tokens", "integer_below_min_value"),
        ({"max_tokens": 2**63}, "max_tokens", "integer_above_max_value"),
        ({"max_completion_tokens": 0}, "max_completion_tokens", "integer_below_min_value"),
        ({"temperature": 2.0001}, "temperature", "decimal_above_max_value"),
        ({"temperature": -1}, "temperature", "decimal_below_min_value"),
        ({"temperature": 1e308}, "temperature", "decimal_above_max_value"),
        ({"temperature": "1"}, "temperature", "invalid_type"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"top_p": -0.1}, "top_p", "decimal_below_min_value"),
        ({"top_p": 1.1}, "top_p", "decimal_above_max_value"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"n": 1_000_000_000}, "n", "integer_above_max_value"),
        ({"seed": 2**64}, "seed", "integer_above_max_value"),
        ({"stop": ""}, "stop", "invalid_value"),
        ({"stop": [""]}, "stop[0]", "empty_string"),
        ({"stop": ["a"] * 5}, "stop", "array_above_max_length"),
        ({"stop": ["a" * 1025]}, "stop[0]", "string_above_max_length"),
        ({"stop": 5}, "stop", "invalid_type"),
        ({"stream": 1}, "stream", "invalid_type"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        (
            {"stream": True, "stream_options": {"continuous_usage_stats": 1}},
            "stream_options.continuous_usage_stats",
            "invalid_type",
        ),
        ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a", "string_above_max_length"),
        ({"metadata": {str(k): "" for k in range(17)}}, "metadata", "object_above_max_length"),
        ({"reasoning_effort": "huge"}, "reasoning_effort", "invalid_value"),
        ({"verbosity": "huge"}, "verbosity", "invalid_value"),
        ({"web_search_options": {}}, "web_search_options", "unsupported_parameter"),
        ({"tools": [{}]}, "tools", "unsupported_parameter"),
        ({"chat_template": "x"}, "chat_template", "unsupported_parameter"),
        ({"chat_template_kwargs": []}, "chat_template_kwargs", "invalid_type"),
        ({"continue_final_message": 1}, "continue_final_message", "invalid_type"),
        ({"add_generation_prompt": "true"}, "add_generation_prompt", "invalid_type"),
        ({"include_stop_str_in_output": 1}, "include_stop_str_in_output", "invalid_type"),
        ({"skip_special_tokens": "no"}, "skip_special_tokens", "invalid_type"),
        ({"allowed_token_ids": []}, "allowed_token_ids", "empty_array"),
        ({"allowed_token_ids": [1, True]}, "allowed_token_ids[1]", "invalid_type"),
        ({"allowed_token_ids": [1, -1]}, "allowed_token_ids[1]", "integer_below_min_value"),
        ({"allowed_token_ids": [1] * 16_385}, "allowed_token_ids", "array_above_max_length"),
        ({"bad_words": "x"}, "bad_words", "invalid_type"),
        ({"bad_words": ["x", ""]}, "bad_words[1]", "empty_string"),
        ({"bad_words": ["x", 1]}, "bad_words[1]", "invalid_type"),
        ({"bad_words": ["x"] * 129}, "bad_words", "array_above_max_length"),
        ({"bad_words": ["x" * 257]}, "bad_words[0]", "string_above_max_length"),
        ({"max_tokens": 2**17, "n": 3}, "n", "invalid_value"),
        ({"top_k": 0.01}, "top_k", "invalid_type"),
        ({"top_k": -2}, "top_k", "integer_below_min_value"),
        ({"top_k": 2**31}, "top_k", "integer_above_max_value"),
        ({"top_k": True}, "top_k", "invalid_type"),
        ({"min_p": 1.1}, "min_p", "decimal_above_max_value"),
        ({"min_p": -1}, "min_p", "decimal_below_min_value"),
        ({"repetition_penalty": 0}, "repetition_penalty", "decimal_below_min_value"),
        ({"repetition_penalty": 2.5}, "repetition_penalty", "decimal_above_max_value"),
        ({"presence_penalty": 999}, "presence_penalty", "decimal_above_max_value"),
        ({"presence_penalty": False}, "presence_penalty", "invalid_type"),
        ({"frequency_penalty": -2.1}, "frequency_penalty", "decimal_below_min_value"),
        ({"frequency_penalty": False}, "frequency_penalty", "invalid_type"),
        ({"min_tokens": -1}, "min_tokens", "integer_below_min_value"),
        ({"min_tokens": 6, "max_tokens": 5}, "min_tokens", "invalid_value"),
        ({"stop_token_ids": [1, -1]}, "stop_token_ids[1]", "integer_below_min_value"),
        ({"stop_token_ids": ["1"]}, "stop_token_ids[0]", "invalid_type"),
        ({"stop_token_ids": [1] * 129}, "stop_token_ids", "array_above_max_length"),
        ({"stop_token_ids": 1}, "stop_token_ids", "invalid_type"),
        ({"ignore_eos": 1}, "ignore_eos", "invalid_type"),
        ({"logit_bias": []}, "logit_bias", "invalid_type"),
        ({"logit_bias": {"AI": 1}}, "logit_bias.AI", "invalid_value"),
        ({"logit_bias": {"-1": 1}}, "logit_bias.-1", "invalid_value"),
        ({"logit_bias": {"01": 1}}, "logit_bias.01", "invalid_value"),
        ({"logit_bias": {"\u0661": 1}}, "logit_bias.\u0661", "invalid_value"),
        ({"logit_bias": {"x" * 10_000: 1}}, "logit_bias." + "x" * 189 + "…", "invalid_value"),
        ({"logit_bias": {"50256": 1e9}}, "logit_bias.50256", "decimal_above_max_value"),
        ({"logit_bias": {"50256": -101}}, "logit_bias.50256", "decimal_below_min_value"),
        ({"logit_bias": {"50256": "1"}}, "logit_bias.50256", "invalid_type"),
        ({"logit_bias": {"50256": True}}, "logit_bias.50256", "invalid_type"),
        ({"logit_bias": dict.fromkeys(map(str, range(1025)), 1)}, "logit_bias", "object_above_max_length"),
        ({"logprobs": 1}, "logprobs", "invalid_type"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs", "integer_below_min_value"),
        ({"top_logprobs": 1}, "top_logprobs", "invalid_value"),
        ({"logprobs": False, "top_logprobs": 1}, "top_logprobs", "invalid_value"),
        ({"prompt_logprobs": -1}, "prompt_logprobs", "integer_below_min_value"),
        ({"prompt_logprobs": 21}, "prompt_logprobs", "integer_above_max_value"),
        ({"prompt_logprobs": True}, "prompt_logprobs", "invalid_type"),
        ({"prompt_logprobs": 0, "stream": True}, "prompt_logprobs", "invalid_value"),
        ({"metadata": {"k" * 65: ""}}, "metadata." + "k" * 65, "string_above_max_length"),
    ],
)
def test_each_fault_is_named(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(**fields)
    assert (caught.value.info.param, caught.value.info.code) == (param, code)
    assert caught.value.info.status == 400


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (
            {"messages": [{"role": "x", "content": ""}]},
            "expected 'system', 'developer', 'user' or 'assistant'",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
            "expected the pattern",
        ),
        ({"stop": ""}, "it must not be empty"),
    ],
)
def test_a_value_that_is_none_of_those_expected_is_told_which_they_are(
    fields: dict[str, Any], why: str
) -> None:
    with pytest.raises(RequestError, match=f"': {why}"):
        read(**fields)


@pytest.mark.parametrize("name", sorted(UNSUPPORTED))
def test_a_field_that_is_not_honoured_is_refused_by_name(name: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(**{name: "x"})
    assert (caught.value.info.param, caught.value.info.code) == (name, "unsupported_parameter")
    assert read(**{name: None}) == read()


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, field in UNSUPPORTED.items() for value in field.idle]
)
def test_values_that_ask_for_what_happens_anyway_are_taken(name: str, value: Any) -> None:
    assert read(**{name: value}) == read()


@pytest.mark.parametrize("name", UNSUPPORTED_IN_MESSAGE)
def test_a_field_of_a_message_that_is_not_honoured_is_refused_by_name(name: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(messages=[{**HELLO[0], name: "x"}])
    found = (caught.value.info.param, caught.value.info.code)
    assert found == (f"messages[0].{name}", "unsupported_parameter")
    for idle in (None, *UNSUPPORTED_IN_MESSAGE[name].idle):
        assert read(messages=[{**HELLO[0], name: idle}]) == read()


def test_a_boolean_is_no_number() -> None:
    assert read(routed_experts_prompt_start=0.0) == read()
    for fields in ({"routed_experts_prompt_start": False}, {"echo": 0}):
        with pytest.raises(RequestError):
            read(**fields)


#: A value of each field without effect.
WITHOUT_EFFECT: dict[str, Any] = {
    "length_penalty": 0.5,
    "media_io_kwargs": {"video": {}},
    "mm_processor_kwargs": {},
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "x"},
    "priority": -5,
    "prompt_cache_options": {},
    "spaces_between_special_tokens": True,
    "store": True,
    "stream_interval": 10,
    "truncation_side": "left",
    "verbosity": "low",
}


@pytest.mark.parametrize("name", sorted(WithoutEffect.model_fields))
def test_what_has_no_effect_is_accepted_and_not_kept(name: str) -> None:
    assert read(**{name: WITHOUT_EFFECT.get(name, "x")}) == read()
    with pytest.raises(RequestError):
        read(**{name: [5]})


@pytest.mark.parametrize("name", sorted(MessageWithoutEffect.model_fields))
def test_what_clients_send_back_of_an_answer_is_accepted_and_not_kept(name: str) -> None:
    assert read(messages=[{**HELLO[0], name: [{}] if name == "annotations" else "x"}]) == read()


def test_fields_that_nobody_knows_are_ignored_and_named() -> None:
    found = read(
        foo=1,
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {}}], "id": 1},
        ],
        stream=True,
        stream_options={"include_usage": True, "bar": 1},
        response_format={"type": "json_schema", "json_schema": {"name": "x", "scheme": {}}, "y": 1},
    )
    assert set(found.ignored) == {
        "foo",
        "messages[0].content[0].cache_control",
        "messages[0].id",
        "stream_options.bar",
        "response_format.json_schema.scheme",
        "response_format.y",
    }
    assert found.request.prompts == (PROMPT,)


def test_what_a_schema_or_a_variable_holds_is_not_a_field() -> None:
    schema = {"type": "object", "properties": {"foo": {"type": "string"}}}
    asked = {
        "structured_outputs": {"json": schema},
        "chat_template_kwargs": {"foo": 1},
        "metadata": {"foo": ""},
    }
    assert read(**asked).ignored == ()


def test_a_fault_in_a_job_names_its_place() -> None:
    with pytest.raises(RequestError) as caught:
        OpenAIChat().parse({"model": "m", "messages": HELLO, "logit_bias": {"AI": 1}}, prefix="body.")
    assert caught.value.info.param == "body.logit_bias.AI"
    asked = {"model": "m", "messages": [{**HELLO[0], "foo": 1}]}
    assert OpenAIChat().parse(asked, prefix="body.").ignored == ("body.messages[0].foo",)


def test_what_is_asked_for() -> None:
    found = read(
        messages=[
            {"role": "developer", "content": "be brief"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                "name": "ann",
            },
        ],
        max_tokens=4,
        max_completion_tokens=5,
        temperature=1,
        top_p=0.5,
        seed=-1,
        stop="x",
        n=2,
        stream=True,
        stream_options={"include_usage": True, "continuous_usage_stats": False, "include_obfuscation": True},
        user="u",
        store=False,
        top_k=-1,
        min_p=0,
        repetition_penalty=1,
        presence_penalty=-2,
        frequency_penalty=2,
        min_tokens=5,
        stop_token_ids=[3, 1],
        ignore_eos=True,
        include_stop_str_in_output=True,
        skip_special_tokens=False,
        allowed_token_ids=[7, 3],
        bad_words=[" x"],
        logit_bias={"7": -100, "0": 1.5},
        logprobs=True,
        top_logprobs=3,
        metadata={"a": "b"},
    )
    prompt = ChatPrompt((ChatMessage("system", "be brief"), ChatMessage("user", "a\nb", "ann")))
    sampling = SamplingOptions(
        max_tokens=5,
        temperature=1.0,
        top_p=0.5,
        seed=2**63 - 1,
        stop=("x",),
        top_k=-1,
        min_p=0.0,
        repetition_penalty=1.0,
        presence_penalty=-2.0,
        frequency_penalty=2.0,
        min_tokens=5,
        stop_token_ids=(3, 1),
        ignore_eos=True,
        include_stop=True,
        skip_special_tokens=False,
        logit_bias={7: -100.0, 0: 1.5},
        allowed_token_ids=(7, 3),
        bad_words=(" x",),
        logprobs=3,
    )
    expected = Parsed(
        "m", GenerationRequest((prompt,), 2, sampling), {"include_usage": True}, {"a": "b"}, is_streamed=True
    )
    assert found == expected
    assert GenerationRequest.decode(found.request.encode()) == found.request
    assert read() == Parsed("m", GenerationRequest((PROMPT,)))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"top_p": 0, "temperature": 1.5}, SamplingOptions(temperature=0.0)),
        ({"logprobs": True}, SamplingOptions(logprobs=0)),
        ({"logprobs": False, "top_logprobs": 0}, SamplingOptions()),
        ({"prompt_logprobs": 0}, SamplingOptions(prompt_logprobs=0)),
        ({"stop": [], "logit_bias": {}, "skip_special_tokens": True}, SamplingOptions()),
    ],
)
def test_what_means_the_same_is_the_same(fields: dict[str, Any], expected: SamplingOptions) -> None:
    assert read(**fields).request.sampling == expected


def test_the_usage_of_a_stream_is_an_option_of_its_view() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    assert read(stream=True, stream_options=options).view == options
    assert read(stream=True, stream_options={"include_usage": None}).view == {}
