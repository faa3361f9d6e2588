"""Unsupported: OpenAI's fields that Baton knows and does not honour yet. They are refused by name."""

from __future__ import annotations

from typing import Any

from api.schemas.validation import Schema
from shared.errors import RequestError, invalid_request

#: Of a chat.
UNSUPPORTED = frozenset(
    {
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "modalities",
        "moderation",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "service_tier",
        "tool_choice",
        "tools",
        "top_logprobs",
        "verbosity",
        "web_search_options",
    }
)
#: Of a message.
UNSUPPORTED_IN_MESSAGE = frozenset(
    {
        "name",
        "audio",
        "function_call",
        "refusal",
        "tool_call_id",
        "tool_calls",
        "annotations",
    }
)
#: Of a job.
UNSUPPORTED_IN_JOB = frozenset({"webhook"})
#: Values that ask for what happens anyway; clients send them with every request.
_WITHOUT_EFFECT: dict[str, Any] = {
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logprobs": False,
    "logit_bias": {},
    "response_format": {"type": "text"},
    "service_tier": "auto",
    "annotations": [],
}


def without_idle(
    fields: dict[str, Any], schema: type[Schema], unsupported: frozenset[str], prefix: str
) -> dict[str, Any]:
    """The fields that ask for something: a known one that is null counts as not given.

    Raises RequestError for one that is not honoured yet.
    """
    kept: dict[str, Any] = {}
    for name, value in fields.items():
        if name in unsupported:
            if value is not None and not _is_without_effect(name, value):
                raise _refusal(prefix + name)
        elif value is not None or name not in schema.model_fields:
            kept[name] = value
    return kept


def _refusal(param: str) -> RequestError:
    message = f"Unsupported parameter: '{param}' is not supported by this server."
    return invalid_request(message, param=param, code="unsupported_parameter")


def _is_without_effect(name: str, value: Any) -> bool:
    idle = _WITHOUT_EFFECT.get(name)
    # In Python 0 == False: compare booleans with booleans only.
    return idle is not None and value == idle and isinstance(value, bool) == isinstance(idle, bool)
