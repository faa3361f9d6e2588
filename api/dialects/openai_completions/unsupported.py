"""Fields of OpenAI's and vLLM's completions that are refused by name (see api.dialects.unsupported)."""

from __future__ import annotations

from collections.abc import Mapping

from api.dialects.parameters.unsupported import UNSUPPORTED_VLLM
from api.dialects.unsupported import Refused, vllm

_CHAT = "Use /v1/chat/completions."
_SPECIAL = "A text gets the tokenizer's special tokens. Token ids are taken as they are."

UNSUPPORTED: Mapping[str, Refused] = {
    **UNSUPPORTED_VLLM,
    "messages": Refused(note=_CHAT),
    "tools": Refused(idle=([],), note=_CHAT),
    "add_special_tokens": vllm(True, note=_SPECIAL),
    "prompt_embeds": vllm(),
}
