"""Fields of all of vLLM's endpoints that are refused by name (see api.dialects.unsupported)."""

from __future__ import annotations

from collections.abc import Mapping

from api.dialects.unsupported import Refused, vllm

_STRUCTURE = "Use `structured_outputs`."

UNSUPPORTED_VLLM: Mapping[str, Refused] = {
    "ec_transfer_params": vllm(),
    "guided_choice": vllm(note=_STRUCTURE),
    "guided_grammar": vllm(note=_STRUCTURE),
    "guided_json": vllm(note=_STRUCTURE),
    "guided_regex": vllm(note=_STRUCTURE),
    "guided_whitespace_pattern": vllm(note=_STRUCTURE),
    "kv_transfer_params": vllm(),
    "logits_processors": vllm([], note="It would run a client's code on the server."),
    "logprob_token_ids": vllm(),
    "repetition_detection": vllm(),
    "return_prompt_text": vllm(False),
    "return_token_ids": vllm(False),
    "return_token_offsets": vllm(False),
    "return_tokens_as_token_ids": vllm(False),
    "routed_experts_prompt_start": vllm(0),
    "thinking_token_budget": vllm(),
    "truncate_prompt_tokens": vllm(),
    "use_beam_search": vllm(False),
    "vllm_xargs": vllm({}),
    "watermarking": vllm(False),
}
