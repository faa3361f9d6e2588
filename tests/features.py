"""Features: a request to the tiny chat model for each sampling parameter."""

from __future__ import annotations

from typing import Any

#: The base of each feature's request: 40 tokens, each drawn.
PLAIN: dict[str, Any] = {"temperature": 1.0, "seed": 5, "max_tokens": 40}
#: The tiny chat model's end of turn, and some of its other tokens.
END, ONE, OTHER = 2, 20, 300
#: Features whose answers are as long as `max_tokens` allows if `ignore_eos` is set.
ENDLESS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "temperature": {"temperature": 0.5},
    "top_p": {"top_p": 0.6},
    "top_k": {"top_k": 3},
    "min_p": {"min_p": 0.3},
    "repetition_penalty": {"repetition_penalty": 1.9},
    "presence_penalty": {"presence_penalty": 2, "temperature": 0.6},
    "frequency_penalty": {"frequency_penalty": 1.5, "temperature": 0.3},
    "logit_bias": {"logit_bias": {str(ONE): 9, str(OTHER): 9, "40": -100}},
    "allowed_token_ids": {"allowed_token_ids": [*range(30, 316, 5), ONE]},
    "bad_words": {"bad_words": [chr(i) for i in range(ord("a"), ord("w"))] + ["on", " x"]},
    "lists and regex": {
        "structured_outputs": {"regex": "([a-z]{2,9} [0-9]{1,3}, )+"},
        "allowed_token_ids": list(range(3, 300)),
        "bad_words": ["q", "x y", "1", "ab"],
        "skip_special_tokens": False,
    },
    "regex": {"structured_outputs": {"regex": "([a-z]{2,9} [0-9]{1,3}, )+"}},
}
#: A schema for objects of limited length.
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "likes": {"type": "array", "items": {"enum": ["rain", "snow", None]}, "maxItems": 2},
    },
    "required": ["name", "age", "likes"],
    "additionalProperties": False,
}


def features(plain: str) -> dict[str, dict[str, Any]]:
    """Return the features by name. `plain` is the answer to PLAIN. Some of its strings are used as stop strings."""
    middle = len(plain) * 2 // 3
    # The first begins in the text again and again and is never complete; the second is, and crosses tokens.
    stop = [plain[3:6] + "\x7f", plain[middle : middle + 3]]
    added: dict[str, dict[str, Any]] = {
        **ENDLESS,
        "min_tokens": {"min_tokens": 20, "logit_bias": {str(END): 100}},
        "ignore_eos": {"ignore_eos": True, "logit_bias": {str(END): 7}},
        "stop": {"stop": stop},
        "stop, shown": {"stop": stop, "include_stop_str_in_output": True},
        "stop_token_ids, shown": {
            "stop_token_ids": [ONE],
            "logit_bias": {str(ONE): 5},
            "include_stop_str_in_output": True,
            "logprobs": True,
        },
        "skip_special_tokens": {
            "skip_special_tokens": False,
            "ignore_eos": True,
            "logit_bias": {str(END): 7, "1": 7},
            "stop": ["im_end|><"],
            "min_tokens": 10,
        },
        "continue_final_message": {"continue_final_message": True},
        "add_generation_prompt": {"add_generation_prompt": False},
        "stop_token_ids": {"stop_token_ids": [ONE], "logit_bias": {str(ONE): 5}},
        "logprobs": {"logprobs": True, "top_logprobs": 3},
        "n": {"n": 3},
        "json_schema": {
            "response_format": {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}},
            "max_tokens": 200,
        },
        "choice": {"structured_outputs": {"choice": ["yes", "no", "perhaps", "perhaps not"]}},
        "grammar": {
            "structured_outputs": {"grammar": 'root ::= "a" root "b" | [0-9]'},
            "n": 2,
            "min_tokens": 3,
            "logprobs": True,
            "frequency_penalty": 1.0,
            "top_k": 40,
        },
        "everything": {
            "top_p": 0.95,
            "top_k": 50,
            "min_p": 0.01,
            "repetition_penalty": 1.1,
            "presence_penalty": 0.5,
            "frequency_penalty": 0.5,
            "logit_bias": {str(ONE): 4, str(END): 4},
            "allowed_token_ids": list(range(310)),
            "bad_words": ["a", "count", "be ce"],
            "include_stop_str_in_output": True,
            "min_tokens": 25,
            "stop_token_ids": [ONE],
            "stop": stop,
            "logprobs": True,
            "top_logprobs": 2,
            "n": 2,
        },
    }
    return {name: {**PLAIN, **fields} for name, fields in added.items()}


#: The features' names, for parametrized tests.
NAMES = tuple(features("0123456789"))
