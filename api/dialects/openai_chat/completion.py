"""Completion: the whole `chat.completion` object."""

from __future__ import annotations

from typing import Any

from api.dialects.base import JobInfo
from api.dialects.openai_chat.ids import call_id, completion_id
from api.dialects.openai_chat.logprobs import logprobs_json, prompt_logprobs_json
from api.dialects.usage import usage_json
from shared.domain.result import ChoiceResult, Result


def completion(job: JobInfo, result: Result) -> dict[str, Any]:
    """The answer of a job that ended by itself."""
    prompt = next(
        (choice.prompt_logprobs for choice in result.choices if choice.prompt_logprobs is not None), None
    )
    return {
        "id": completion_id(job.job_id),
        "object": "chat.completion",
        "created": job.created,
        "model": job.model,
        "choices": [_choice(job, index, choice) for index, choice in enumerate(result.choices)],
        "usage": usage_json(result.used),
        **({} if prompt is None else {"prompt_logprobs": prompt_logprobs_json(prompt)}),
    }


def _choice(job: JobInfo, index: int, choice: ChoiceResult) -> dict[str, Any]:
    return {
        "index": index,
        "message": _message(job, index, choice),
        "logprobs": logprobs_json(choice.logprobs) if choice.logprobs else None,
        "finish_reason": None if choice.finish is None else choice.finish.reason,
    }


def _message(job: JobInfo, index: int, choice: ChoiceResult) -> dict[str, Any]:
    text, calls = choice.text, _calls(job, index, choice)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text if text or not calls else None,
        "refusal": choice.text_of("refusal") or None,
    }
    if reasoning := choice.text_of("reasoning"):
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
    return message


def _calls(job: JobInfo, choice: int, found: ChoiceResult) -> list[dict[str, Any]]:
    calls = [item for item in found.items if item.kind == "args"]
    return [
        {
            "id": item.id or call_id(job.job_id, choice, number),
            "type": "function",
            "function": {"name": item.name or "", "arguments": item.text},
        }
        for number, item in enumerate(calls)
    ]
