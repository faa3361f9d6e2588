"""Translate: news of a job, as the chunks and the completion object of `/v1/chat/completions`.

Pure. Everything in a chunk is the job's (id, time, model), nothing the replica's: two readings of one job
differ in chunk borders at most.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from json.encoder import encode_basestring_ascii as quote
from typing import Any, NamedTuple

from api.streaming.updates import Update
from shared.domain.events import (
    Cancelled,
    Candidate,
    ChoiceOutput,
    Completed,
    Expired,
    Failed,
    FinishReason,
    Incomplete,
    TokenLogprobs,
)
from shared.domain.prompt_logprobs import PromptLogprobs, PromptToken

#: A completion's id is its job's with another prefix.
JOB_PREFIX, CHAT_PREFIX = "job_", "chatcmpl-"

#: OpenAI's word for a token that is very unlikely; JSON has no infinity.
_LEAST_LOGPROB = -9999.0
_FINISH: dict[FinishReason | None, str] = {None: "null", "stop": '"stop"', "length": '"length"'}


class JobInfo(NamedTuple):
    """What every chunk of a job says about it."""

    job_id: str
    model: str
    #: Seconds since the epoch, by Redis's clock.
    created: int
    n: int

    @property
    def completion_id(self) -> str:
        return CHAT_PREFIX + self.job_id.removeprefix(JOB_PREFIX)


def job_id_of(completion_id: str) -> str:
    """The job behind a completion's id; "" when it has not that form."""
    if not completion_id.startswith(CHAT_PREFIX):
        return ""
    return JOB_PREFIX + completion_id.removeprefix(CHAT_PREFIX)


class Chunks:
    """Writes the chunks of one job as JSON."""

    def __init__(self, job_info: JobInfo, *, with_usage: bool) -> None:
        self._head = (
            f'{{"id":{quote(job_info.completion_id)},"object":"chat.completion.chunk",'
            f'"created":{job_info.created},"model":{quote(job_info.model)},"choices":['
        )
        # OpenAI's chunks say `usage: null` when a usage chunk will come.
        self._tail = '],"usage":null}' if with_usage else "]}"

    def chunk(self, output: ChoiceOutput, *, begins: bool) -> str | None:
        """Tokens of one choice; None when there is nothing to tell (tokens without text or logprobs)."""
        text = output.text
        if not text and not begins and output.finish is None and not output.logprobs:
            return None
        content = f'"content":{quote(text)}' if text or begins else ""
        role = '"role":"assistant",' if begins else ""
        logprobs = _compact(logprobs_of(output.logprobs)) if output.logprobs else "null"
        return (
            f'{self._head}{{"index":{output.index},"delta":{{{role}{content}}},"logprobs":{logprobs},'
            f'"finish_reason":{_FINISH[output.finish]}}}{self._tail}'
        )

    def usage(self, usage: dict[str, int]) -> str:
        """The last chunk of a stream with `include_usage`."""
        return f'{self._head}],"usage":{_compact(usage)}}}'


def _compact(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


def usage_of(end: Completed | Incomplete | Failed | Cancelled | Expired, tokens: int) -> dict[str, int]:
    """What the job used: the prompt as its worker read it, and every token that was released."""
    prompt = 0 if isinstance(end, Expired) else end.prompt_tokens
    return {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}


def texts_of(n: int, news: Iterable[Update]) -> tuple[list[str], list[FinishReason | None]]:
    """Text and finish reason per choice."""
    parts: list[list[str]] = [[] for _ in range(n)]
    finish: list[FinishReason | None] = [None] * n
    for one in news:
        if isinstance(one.event, ChoiceOutput):
            parts[one.event.index] += one.event.texts
            finish[one.event.index] = one.event.finish
    return ["".join(texts) for texts in parts], finish


def logprobs_of(told: Sequence[TokenLogprobs]) -> dict[str, Any]:
    """OpenAI's `logprobs` of consecutive tokens: one entry a token, those without text too."""
    content = [
        {**_candidate(one.chosen), "top_logprobs": [_candidate(each) for each in one.top]} for one in told
    ]
    return {"content": content, "refusal": None}


def _candidate(candidate: Candidate) -> dict[str, Any]:
    # Not `max`: what is no number must not reach a client's JSON reader.
    logprob = candidate.logprob if candidate.logprob > _LEAST_LOGPROB else _LEAST_LOGPROB
    token = candidate.raw.decode("utf-8", "replace")
    return {"token": token, "logprob": logprob, "bytes": list(candidate.raw)}


def prompt_logprobs_of(told: PromptLogprobs) -> list[dict[str, Any] | None]:
    """vLLM's `prompt_logprobs`: one entry a token, by token id, its own first; null for the first token."""
    return [None, *[_prompt_token(token, told.texts) for token in told.tokens]]


def _prompt_token(token: PromptToken, texts: Mapping[int, str]) -> dict[str, Any]:
    ranked = [(rank, *one) for rank, one in enumerate(token.top, 1)]
    return {
        str(token_id): {"logprob": logprob, "rank": rank, "decoded_token": texts[token_id]}
        for rank, token_id, logprob in [(token.rank, token.token_id, token.logprob), *ranked]
    }


def completion(job_info: JobInfo, news: Iterable[Update]) -> dict[str, Any]:
    """The whole `chat.completion`, of all the news from the start to the end."""
    news = list(news)
    texts, finish = texts_of(job_info.n, news)
    told: list[list[TokenLogprobs]] = [[] for _ in range(job_info.n)]
    prompt: PromptLogprobs | None = None
    for one in news:
        if isinstance(one.event, ChoiceOutput):
            told[one.event.index] += one.event.logprobs or ()
            prompt = prompt or one.event.prompt_logprobs
    end = news[-1].event
    assert not isinstance(end, ChoiceOutput) and news[-1].is_end
    return {
        "id": job_info.completion_id,
        "object": "chat.completion",
        "created": job_info.created,
        "model": job_info.model,
        "choices": [_choice(index, texts[index], told[index], finish[index]) for index in range(job_info.n)],
        "usage": usage_of(end, news[-1].completion_tokens),  # type: ignore[arg-type]  # is_end says it
        **({} if prompt is None else {"prompt_logprobs": prompt_logprobs_of(prompt)}),
    }


def _choice(
    index: int, text: str, told: Sequence[TokenLogprobs], finish: FinishReason | None
) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "logprobs": logprobs_of(told) if told else None,
        "finish_reason": finish,
    }
