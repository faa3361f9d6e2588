"""The prompts of a completion: text, token ids, or several of either."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints, WithJsonSchema

from api.dialects.parameters.sampling import TokenId
from shared.domain.request import MAX_CHOICES, Prompt, TextPrompt, TokenPrompt
from shared.errors import invalid_request, invalid_value

MAX_PROMPT_TOKENS = 2**20
_Text = Annotated[str, StringConstraints(min_length=1)]
_Tokens = Annotated[list[TokenId], Field(min_length=1, max_length=MAX_PROMPT_TOKENS)]
_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "maxItems": MAX_CHOICES},
        {"type": "array", "items": {"type": "integer"}},
        {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}, "maxItems": MAX_CHOICES},
    ]
}
#: `read_prompts` has made a list of it before it is checked.
Prompts = Annotated[list[_Text | _Tokens], Field(min_length=1), WithJsonSchema(_SCHEMA)]


def read_prompts(given: Any, param: str) -> Any:
    """A list of prompts, each a text or a list of token ids, from the four forms of `prompt`.

    Raises RequestError (400) that names the element at fault. What is neither is left to the schema.
    """
    if isinstance(given, str):
        prompts: list[Any] = [given]
    elif isinstance(given, list) and given and all(map(_is_int, given)):
        prompts = [given]
    elif isinstance(given, list):
        prompts = given
    else:
        expected = "expected a string, an array of strings, or an array of token ids"
        raise invalid_request(f"Invalid type for '{param}': {expected}.", param=param, code="invalid_type")
    if not prompts:
        raise invalid_request(f"Invalid '{param}': empty array.", param=param, code="empty_array")
    if len(prompts) > MAX_CHOICES:
        raise invalid_value(param, f"it has {len(prompts)} prompts, and the maximum is {MAX_CHOICES}")
    for index, prompt in enumerate(prompts):
        _check(prompt, param if prompts is not given else f"{param}[{index}]")
    return prompts


def prompt_of(given: str | list[int], suffix: str | None) -> Prompt:
    """One of them, for the worker."""
    return TextPrompt(given, suffix) if isinstance(given, str) else TokenPrompt(tuple(given))


def _check(prompt: Any, param: str) -> None:
    if isinstance(prompt, list):
        wrong = next((index for index, token in enumerate(prompt) if not _is_int(token) or token < 0), None)
        if wrong is not None:
            raise invalid_value(f"{param}[{wrong}]", "token ids are integers from 0 on")
    elif not isinstance(prompt, str):
        expected = "expected a string or an array of token ids"
        raise invalid_request(f"Invalid type for '{param}': {expected}.", param=param, code="invalid_type")
    if not prompt:
        raise invalid_value(param, "the prompt is empty")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
