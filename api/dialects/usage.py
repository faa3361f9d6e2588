"""Usage as OpenAI's chat completions and Baton's jobs show it."""

from __future__ import annotations

from typing import Any, Literal

from api.dialects.base import View
from shared.domain.usage import Usage

#: Where a stream says what was used: nowhere, in a last chunk of its own, or in that one and in every other.
UsageIn = Literal["nothing", "last", "every"]


def usage_in(view: View) -> UsageIn:
    """Where `stream_options` ask for it."""
    if not view.get("include_usage"):
        return "nothing"
    return "every" if view.get("continuous_usage_stats") else "last"


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
