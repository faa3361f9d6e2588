"""Part B, continued: how tokens are drawn, and what is kept with a job."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.acceptance.bad_input.case import Case, Refused, field, known_to_worker, post
from tests.acceptance.bad_input.site import CHAT, JOBS, Site, chat

_FORTY = 2**40


def _bias(**biases: Any) -> dict[str, Any]:
    return {"logit_bias": {name.removeprefix("_"): value for name, value in biases.items()}}


def _line_ends(site: Site) -> Iterable[Refused]:
    """They are data like other characters: told in JSON, and in no header."""
    metadata = {"a\r\nset-cookie: x": "b\r\nset-cookie: y\r\n\r\n"}
    reply = site.request("POST", JOBS, {"endpoint": CHAT, "body": chat(), "metadata": metadata})
    assert (reply.status, reply.json["metadata"]) == (202, metadata)
    assert "set-cookie" not in reply.headers
    return []


CASES = [
    field("B31 tokens of all choices", {"n": 16, "max_tokens": 2**17}, 400, "invalid_value", "n"),
    field(
        "B32 presence_penalty 999",
        {"presence_penalty": 999.5},
        400,
        "decimal_above_max_value",
        "presence_penalty",
    ),
    field(
        "B32 frequency_penalty -999",
        {"frequency_penalty": -999.5},
        400,
        "decimal_below_min_value",
        "frequency_penalty",
    ),
    field(
        "B32 repetition_penalty 0",
        {"repetition_penalty": 0.0},
        400,
        "decimal_below_min_value",
        "repetition_penalty",
    ),
    field("B32 min_p 1.1", {"min_p": 1.1}, 400, "decimal_above_max_value", "min_p"),
    field("B33 top_k 0.01", {"top_k": 0.01}, 400, "invalid_type", "top_k"),
    field("B33 top_k 2^40", {"top_k": _FORTY}, 400, "integer_above_max_value", "top_k"),
    field("B33 top_k -2", {"top_k": -2}, 400, "integer_below_min_value", "top_k"),
    field(
        "B34 top_logprobs 21",
        {"logprobs": True, "top_logprobs": 21},
        400,
        "integer_above_max_value",
        "top_logprobs",
    ),
    field("B34 top_logprobs alone", {"top_logprobs": 2}, 400, "invalid_value", "top_logprobs"),
    field(
        "B35 prompt_logprobs -1", {"prompt_logprobs": -1}, 400, "integer_below_min_value", "prompt_logprobs"
    ),
    field(
        "B35 prompt_logprobs 2^40",
        {"prompt_logprobs": _FORTY},
        400,
        "integer_above_max_value",
        "prompt_logprobs",
    ),
    field(
        "B35 prompt_logprobs of a stream",
        {"prompt_logprobs": 1, "stream": True},
        400,
        "invalid_value",
        "prompt_logprobs",
    ),
    field("B36 seed 2^64", {"seed": 2**64}, 400, "integer_above_max_value", "seed"),
    field("B37 five stops", {"stop": ["a"] * 5}, 400, "array_above_max_length", "stop"),
    field("B37 10,000 stops", {"stop": ["a"] * 10_000}, 400, "array_above_max_length", "stop"),
    post("B37 a million stops", chat(stop=["a"] * 1_000_000), 413, "request_too_large"),
    post("B37 half a million stops", chat(stop=["a"] * 500_000), 400),
    field("B37 an empty stop", {"stop": ""}, 400, "invalid_value", "stop"),
    field("B37 an empty stop in a list", {"stop": [""]}, 400, "empty_string", "stop[0]"),
    field("B37 a stop of 1 MB", {"stop": ["x" * 1_000_000]}, 400, "string_above_max_length", "stop[0]"),
    known_to_worker(
        "B38 a stop token beyond the vocabulary", {"stop_token_ids": [5, 10**6]}, "stop_token_ids[1]"
    ),
    field(
        "B38 a negative stop token",
        {"stop_token_ids": [-1]},
        400,
        "integer_below_min_value",
        "stop_token_ids[0]",
    ),
    field(
        "B38 10,000 stop tokens",
        {"stop_token_ids": [1] * 10_000},
        400,
        "array_above_max_length",
        "stop_token_ids",
    ),
    known_to_worker("B39 a bias beyond the vocabulary", _bias(_1000000000=1), "logit_bias.1000000000"),
    field("B39 a bias of a word", _bias(AI=1), 400, "invalid_value", "logit_bias.AI"),
    field("B39 a bias of -1", {"logit_bias": {"-1": 1}}, 400, "invalid_value", "logit_bias.-1"),
    field("B39 a bias of 1e9", _bias(_5=1e9), 400, "decimal_above_max_value", "logit_bias.5"),
    field("B39 a bias as text", _bias(_5="1"), 400, "invalid_type", "logit_bias.5"),
    field(
        "B39 10,000 biases",
        {"logit_bias": {str(i): 1 for i in range(10_000)}},
        400,
        "object_above_max_length",
        "logit_bias",
    ),
    field(
        "B40 17 pairs",
        {"metadata": {str(i): "" for i in range(17)}},
        400,
        "object_above_max_length",
        "metadata",
    ),
    field(
        "B40 a name of 65",
        {"metadata": {"x" * 65: ""}},
        400,
        "string_above_max_length",
        "metadata." + "x" * 65,
    ),
    field("B40 a value of 513", {"metadata": {"a": "x" * 513}}, 400, "string_above_max_length", "metadata.a"),
    field("B40 nested", {"metadata": {"a": {"b": "c"}}}, 400, "invalid_type", "metadata.a"),
    Case("B40 line ends", _line_ends),
    field("allowed tokens: none", {"allowed_token_ids": []}, 400, "empty_array", "allowed_token_ids"),
    field(
        "allowed tokens: too many",
        {"allowed_token_ids": [1] * 20_000},
        400,
        "array_above_max_length",
        "allowed_token_ids",
    ),
    known_to_worker(
        "allowed tokens: beyond the vocabulary", {"allowed_token_ids": [5, 10**6]}, "allowed_token_ids[1]"
    ),
    known_to_worker(
        "allowed tokens: none that the grammar takes",
        {"allowed_token_ids": [5], "structured_outputs": {"choice": ["\u00e4"]}},
        "allowed_token_ids",
        "no_token_left",
    ),
    field("bad words: too many", {"bad_words": ["a"] * 129}, 400, "array_above_max_length", "bad_words"),
    field(
        "bad words: one of 1 MB", {"bad_words": ["a" * 10**6]}, 400, "string_above_max_length", "bad_words[0]"
    ),
    known_to_worker("bad words: a space", {"bad_words": ["a", " "]}, "bad_words[1]"),
    field(
        "a message continued and answered",
        {"continue_final_message": True, "add_generation_prompt": True},
        400,
        "invalid_value",
        "continue_final_message",
    ),
    known_to_worker(
        "a template's variable that is none",
        {"chat_template_kwargs": {"chat_template": "{{ 1 }}"}},
        "chat_template_kwargs.chat_template",
    ),
]
