"""Usage as OpenAI's chat completions and Baton's jobs show it."""

from __future__ import annotations

from typing import Any

from shared.domain.usage import Usage


def usage_json(used: Usage) -> dict[str, Any]:
    """The `usage` object. Details are there only where they count something."""
    usage: dict[str, Any] = {
        "prompt_tokens": used.prompt,
        "completion_tokens": used.completion,
        "total_tokens": used.total,
    }
    if used.cached:
        usage["prompt_tokens_details"] = {"cached_tokens": used.cached}
    if used.reasoning:
        usage["completion_tokens_details"] = {"reasoning_tokens": used.reasoning}
    return usage
