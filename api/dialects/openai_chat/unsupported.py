"""Fields of OpenAI's and vLLM's chats that are refused by name (see api.dialects.unsupported)."""

from __future__ import annotations

from collections.abc import Mapping

from api.dialects.parameters.unsupported import UNSUPPORTED_VLLM
from api.dialects.unsupported import Refused, vllm

_TOOLS = "Tool calls are not supported yet."
_TEMPLATE = "The model's own template is used. A client's template would run on the server."
_PROMPT = "The chat template adds special tokens itself."

#: Of a chat.
UNSUPPORTED: Mapping[str, Refused] = {
    **UNSUPPORTED_VLLM,
    "audio": Refused(),
    "function_call": Refused(idle=("none", "auto"), note=_TOOLS),
    "functions": Refused(idle=([],), note=_TOOLS),
    "modalities": Refused(idle=(["text"],)),
    "moderation": Refused(),
    "tool_choice": Refused(idle=("none", "auto"), note=_TOOLS),
    "tools": Refused(idle=([],), note=_TOOLS),
    "web_search_options": Refused(),
    "add_special_tokens": vllm(False, note=_PROMPT),
    "chat_template": vllm(note=_TEMPLATE),
    "documents": vllm([]),
    "echo": vllm(False),
    "include_reasoning": vllm(True),
    "return_mm_kwargs": vllm(True),
}
#: Of a message.
UNSUPPORTED_IN_MESSAGE: Mapping[str, Refused] = {
    "audio": Refused(),
    "function_call": Refused(note=_TOOLS),
    "refusal": Refused(),
    "tool_call_id": Refused(note=_TOOLS),
    "tool_calls": Refused(idle=([],), note=_TOOLS),
}
