"""Completion: the whole `text_completion` object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from api.dialects.base import JobInfo, View
from api.dialects.openai_chat.logprobs import prompt_logprobs_json
from api.dialects.openai_completions.ids import completion_id
from api.dialects.openai_completions.logprobs import logprobs_of_choice
from api.dialects.usage import usage_json
from shared.domain.prompt_logprobs import PromptLogprobs
from shared.domain.result import ChoiceResult, Result


def completion(job: JobInfo, view: View, result: Result) -> dict[str, Any]:
    """The answer of a job that ended by itself. Choice `prompt * n + k` is the k-th one of a prompt."""
    num_drawn = job.n // view.get("num_prompts", 1)
    shown: list[dict[str, Any]] = []
    for first in range(0, job.n, num_drawn):
        drawn = result.choices[first : first + num_drawn]
        # The first choice has the log probabilities of the prompt.
        prompt = drawn[0].prompt_logprobs
        for choice in _best(drawn, view.get("best", num_drawn)):
            shown.append(_choice(len(shown), choice, prompt, view))
    return {
        "id": completion_id(job.job_id),
        "object": "text_completion",
        "created": job.created,
        "model": job.model,
        "choices": shown,
        "usage": usage_json(result.used),
    }


def _best(drawn: Sequence[ChoiceResult], num: int) -> list[ChoiceResult]:
    """The choices with the highest mean log probability, the best first; all of them in their order."""
    return list(drawn) if num == len(drawn) else sorted(drawn, key=_mean_logprob, reverse=True)[:num]


def _mean_logprob(choice: ChoiceResult) -> float:
    values = [token.chosen.logprob for token in choice.logprobs or ()]
    return sum(values) / len(values) if values else float("-inf")


def _choice(index: int, choice: ChoiceResult, prompt: PromptLogprobs | None, view: View) -> dict[str, Any]:
    logprobs, num_prompt = None, view.get("prompt_logprobs")
    if (num_top := view.get("logprobs")) is not None:
        echoed = prompt if view.get("echo") else None
        logprobs = logprobs_of_choice(choice.text, choice.logprobs or (), echoed, num_top)
    shown = {
        "index": index,
        "text": choice.text,
        "logprobs": logprobs,
        "finish_reason": None if choice.finish is None else choice.finish.reason,
    }
    if num_prompt is not None and prompt is not None:
        shown["prompt_logprobs"] = prompt_logprobs_json(prompt, num_prompt)
    return shown
