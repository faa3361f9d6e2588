"""Translate: news of a job, as the chunks and the completion object of `/v1/chat/completions`.

Pure. Everything in a chunk is the job's (id, time, model), nothing the replica's: two readings of one job
differ in chunk borders at most.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from json.encoder import encode_basestring_ascii as quote
from typing import Any, NamedTuple

from api.join import News
from shared.events import Cancelled, ChoiceOutput, Completed, Expired, Failed, FinishReason, Incomplete

#: A completion's id is its job's with another prefix.
JOB_PREFIX, CHAT_PREFIX = "job_", "chatcmpl-"

_FINISH: dict[FinishReason | None, str] = {None: "null", "stop": '"stop"', "length": '"length"'}


class Facts(NamedTuple):
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

    def __init__(self, facts: Facts, *, with_usage: bool) -> None:
        self._head = (
            f'{{"id":{quote(facts.completion_id)},"object":"chat.completion.chunk",'
            f'"created":{facts.created},"model":{quote(facts.model)},"choices":['
        )
        # OpenAI's chunks say `usage: null` when a usage chunk will come.
        self._tail = '],"usage":null}' if with_usage else "]}"

    def chunk(self, output: ChoiceOutput, *, begins: bool) -> str | None:
        """Tokens of one choice; None when there is nothing to tell (tokens without text)."""
        text = output.text
        if not text and not begins and output.finish is None:
            return None
        content = f'"content":{quote(text)}' if text or begins else ""
        role = '"role":"assistant",' if begins else ""
        return (
            f'{self._head}{{"index":{output.index},"delta":{{{role}{content}}},"logprobs":null,'
            f'"finish_reason":{_FINISH[output.finish]}}}{self._tail}'
        )

    def usage(self, usage: dict[str, int]) -> str:
        """The last chunk of a stream with `include_usage`."""
        return f'{self._head}],"usage":{json.dumps(usage, separators=(",", ":"))}}}'


def usage_of(end: Completed | Incomplete | Failed | Cancelled | Expired, tokens: int) -> dict[str, int]:
    """What the job used: the prompt as its worker read it, and every token that was released."""
    prompt = 0 if isinstance(end, Expired) else end.prompt_tokens
    return {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}


def texts_of(n: int, news: Iterable[News]) -> tuple[list[str], list[FinishReason | None]]:
    """Text and finish reason per choice."""
    parts: list[list[str]] = [[] for _ in range(n)]
    finish: list[FinishReason | None] = [None] * n
    for one in news:
        if isinstance(one.event, ChoiceOutput):
            parts[one.event.index] += one.event.texts
            finish[one.event.index] = one.event.finish
    return ["".join(texts) for texts in parts], finish


def completion(facts: Facts, news: Iterable[News]) -> dict[str, Any]:
    """The whole `chat.completion`, of all the news from the start to the end."""
    news = list(news)
    texts, finish = texts_of(facts.n, news)
    end = news[-1].event
    assert not isinstance(end, ChoiceOutput) and news[-1].is_end
    return {
        "id": facts.completion_id,
        "object": "chat.completion",
        "created": facts.created,
        "model": facts.model,
        "choices": [_choice(index, texts[index], finish[index]) for index in range(facts.n)],
        "usage": usage_of(end, news[-1].completion_tokens),  # type: ignore[arg-type]  # is_end says it
    }


def _choice(index: int, text: str, finish: FinishReason | None) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": finish}
