"""Log probabilities in OpenAI's form, and vLLM's for those of the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared.domain.output import Candidate, TokenLogprobs, finite_logprob
from shared.domain.prompt_logprobs import PromptLogprobs, PromptToken


def logprobs_json(logprobs: Sequence[TokenLogprobs]) -> dict[str, Any]:
    """OpenAI's `logprobs` of consecutive tokens: one entry for each, also for those without text."""
    content = [
        {**_candidate(token.chosen), "top_logprobs": [_candidate(each) for each in token.top]}
        for token in logprobs
    ]
    return {"content": content, "refusal": None}


def _candidate(candidate: Candidate) -> dict[str, Any]:
    token = candidate.raw.decode("utf-8", "replace")
    return {"token": token, "logprob": finite_logprob(candidate.logprob), "bytes": list(candidate.raw)}


def prompt_logprobs_json(logprobs: PromptLogprobs, num_top: int | None = None) -> list[dict[str, Any] | None]:
    """vLLM's `prompt_logprobs`: for each token an object by token id, its own first; null for the first token.

    `num_top`: show at most this many of the most likely tokens. None: all.
    """
    return [None, *[_prompt_token(token, logprobs.texts, num_top) for token in logprobs.tokens]]


def _prompt_token(token: PromptToken, texts: Mapping[int, str], num_top: int | None) -> dict[str, Any]:
    ranked = [(rank, *candidate) for rank, candidate in enumerate(token.top[:num_top], 1)]
    return {
        str(token_id): {"logprob": logprob, "rank": rank, "decoded_token": texts[token_id]}
        for rank, token_id, logprob in [(token.rank, token.token_id, token.logprob), *ranked]
    }
