"""Fields of OpenAI's and vLLM's chats that are refused by name (see api.dialects.unsupported)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.dialects.unsupported import Refused


def _vllm(*idle: Any, note: str = "") -> Refused:
    return Refused("vLLM", idle, note)


_TOOLS = "Tool calls are not supported yet."
_STRUCTURE = "Use `structured_outputs`."
_TEMPLATE = "The model's own template is used. A client's template would run on the server."
_PROMPT = "The chat template adds special tokens itself."

#: Of a chat.
UNSUPPORTED: Mapping[str, Refused] = {
    "audio": Refused(),
    "function_call": Refused(idle=("none", "auto"), note=_TOOLS),
    "functions": Refused(idle=([],), note=_TOOLS),
    "modalities": Refused(idle=(["text"],)),
    "moderation": Refused(),
    "tool_choice": Refused(idle=("none", "auto"), note=_TOOLS),
    "tools": Refused(idle=([],), note=_TOOLS),
    "web_search_options": Refused(),
    "add_special_tokens": _vllm(False, note=_PROMPT),
    "chat_template": _vllm(note=_TEMPLATE),
    "documents": _vllm([]),
    "ec_transfer_params": _vllm(),
    "echo": _vllm(False),
    "guided_choice": _vllm(note=_STRUCTURE),
    "guided_grammar": _vllm(note=_STRUCTURE),
    "guided_json": _vllm(note=_STRUCTURE),
    "guided_regex": _vllm(note=_STRUCTURE),
    "guided_whitespace_pattern": _vllm(note=_STRUCTURE),
    "include_reasoning": _vllm(True),
    "kv_transfer_params": _vllm(),
    "logits_processors": _vllm([], note="It would run a client's code on the server."),
    "logprob_token_ids": _vllm(),
    "repetition_detection": _vllm(),
    "return_mm_kwargs": _vllm(True),
    "return_prompt_text": _vllm(False),
    "return_token_ids": _vllm(False),
    "return_token_offsets": _vllm(False),
    "return_tokens_as_token_ids": _vllm(False),
    "routed_experts_prompt_start": _vllm(0),
    "thinking_token_budget": _vllm(),
    "truncate_prompt_tokens": _vllm(),
    "use_beam_search": _vllm(False),
    "vllm_xargs": _vllm({}),
    "watermarking": _vllm(False),
}
#: Of `structured_outputs`.
UNSUPPORTED_IN_STRUCTURED_OUTPUTS: Mapping[str, Refused] = {
    "disable_additional_properties": _vllm(False, note="Use `additionalProperties: false` in the schema."),
    "disable_any_whitespace": _vllm(False, note="There is at most one line break or space between parts."),
    "disable_fallback": _vllm(True),
    "structural_tag": _vllm(),
    "whitespace_pattern": _vllm(),
}
#: Of a message.
UNSUPPORTED_IN_MESSAGE: Mapping[str, Refused] = {
    "audio": Refused(),
    "function_call": Refused(note=_TOOLS),
    "refusal": Refused(),
    "tool_call_id": Refused(note=_TOOLS),
    "tool_calls": Refused(idle=([],), note=_TOOLS),
}
