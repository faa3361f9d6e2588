"""Unsupported: fields that Baton knows and does not honour. They are refused by name.

A value that asks for what happens anyway is taken: clients send some of them with every request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from api.http.validation import Schema, names_of
from shared.errors import RequestError, invalid_request

Origin = Literal["OpenAI", "vLLM"]


@dataclass(frozen=True, slots=True)
class Refused:
    """A field that is refused."""

    origin: Origin = "OpenAI"
    #: Values that ask for what happens anyway.
    idle: tuple[Any, ...] = ()
    #: Why, or what to use instead.
    note: str = ""


def _vllm(*idle: Any, note: str = "") -> Refused:
    return Refused("vLLM", idle, note)


_TOOLS = "Tools are not there yet."
_STRUCTURE = "`structured_outputs` is its newer name."
_TEMPLATE = "The model's own template is used: one from a client would run on the server."
_PROMPT = "The model's own template makes the prompt."

#: Of a chat.
UNSUPPORTED: Mapping[str, Refused] = {
    "audio": Refused(),
    "function_call": Refused(idle=("none",), note=_TOOLS),
    "functions": Refused(note=_TOOLS),
    "modalities": Refused(idle=(["text"],)),
    "moderation": Refused(),
    "parallel_tool_calls": Refused(idle=(True,), note=_TOOLS),
    "prediction": Refused(),
    "prompt_cache_options": Refused(),
    "prompt_cache_retention": Refused(),
    "reasoning_effort": Refused(),
    "service_tier": Refused(idle=("auto", "default"), note="`/v1/jobs` has `priority`."),
    "tool_choice": Refused(idle=("none",), note=_TOOLS),
    "tools": Refused(note=_TOOLS),
    "verbosity": Refused(),
    "web_search_options": Refused(),
    "add_special_tokens": _vllm(False, note=_PROMPT),
    "cache_salt": _vllm(),
    "chat_template": _vllm(note=_TEMPLATE),
    "documents": _vllm(),
    "ec_transfer_params": _vllm(),
    "echo": _vllm(False),
    "guided_choice": _vllm(note=_STRUCTURE),
    "guided_decoding_backend": _vllm(note=_STRUCTURE),
    "guided_grammar": _vllm(note=_STRUCTURE),
    "guided_json": _vllm(note=_STRUCTURE),
    "guided_regex": _vllm(note=_STRUCTURE),
    "guided_whitespace_pattern": _vllm(note=_STRUCTURE),
    "include_reasoning": _vllm(True),
    "kv_transfer_params": _vllm(),
    "length_penalty": _vllm(1),
    "logits_processors": _vllm(note="It would run a client's code on the server."),
    "logprob_token_ids": _vllm(),
    "media_io_kwargs": _vllm(),
    "mm_processor_kwargs": _vllm(),
    "priority": _vllm(0, note="`/v1/jobs` has `priority`."),
    "repetition_detection": _vllm(),
    "request_id": _vllm(note="Send the header `x-request-id`."),
    "return_mm_kwargs": _vllm(True),
    "return_prompt_text": _vllm(False),
    "return_token_ids": _vllm(False),
    "return_token_offsets": _vllm(False),
    "return_tokens_as_token_ids": _vllm(False),
    "routed_experts_prompt_start": _vllm(0),
    "session_id": _vllm(),
    "stream_interval": _vllm(1),
    "thinking_token_budget": _vllm(),
    "truncate_prompt_tokens": _vllm(),
    "truncation_side": _vllm(),
    "use_beam_search": _vllm(False),
    "vllm_xargs": _vllm(),
    "watermarking": _vllm(False),
}
#: Of `stream_options`.
UNSUPPORTED_IN_STREAM_OPTIONS: Mapping[str, Refused] = {
    "include_obfuscation": Refused(idle=(False,)),
    "continuous_usage_stats": _vllm(False),
}
#: Of `structured_outputs`.
UNSUPPORTED_IN_STRUCTURED_OUTPUTS: Mapping[str, Refused] = {
    "disable_additional_properties": _vllm(False, note="A schema says it: `additionalProperties: false`."),
    "disable_any_whitespace": _vllm(False, note="There is at most a line break or a space between parts."),
    "disable_fallback": _vllm(True),
    "structural_tag": _vllm(),
    "whitespace_pattern": _vllm(),
}
#: Of a message.
UNSUPPORTED_IN_MESSAGE: Mapping[str, Refused] = {
    "annotations": Refused(idle=([],)),
    "audio": Refused(),
    "function_call": Refused(note=_TOOLS),
    "name": Refused(),
    "refusal": Refused(),
    "tool_call_id": Refused(note=_TOOLS),
    "tool_calls": Refused(note=_TOOLS),
}
#: Of a job.
UNSUPPORTED_IN_JOB: Mapping[str, Refused] = {"webhook": Refused()}


def drop_noop_fields(
    fields: dict[str, Any], schema: type[Schema], unsupported: Mapping[str, Refused], prefix: str
) -> dict[str, Any]:
    """The fields that ask for something: a known one that is null counts as not given.

    Raises RequestError for one that is not honoured.
    """
    kept: dict[str, Any] = {}
    for name, value in fields.items():
        if name in unsupported:
            if value is not None and not any(_is_same(value, idle) for idle in unsupported[name].idle):
                raise _refusal(prefix + name)
        elif value is not None or name not in names_of(schema):
            kept[name] = value
    return kept


def _refusal(param: str) -> RequestError:
    message = f"Unsupported parameter: '{param}' is not supported by this server."
    return invalid_request(message, param=param, code="unsupported_parameter")


def _is_same(value: Any, idle: Any) -> bool:
    # In Python 0 == False: compare booleans with booleans only.
    return bool(value == idle) and isinstance(value, bool) == isinstance(idle, bool)
