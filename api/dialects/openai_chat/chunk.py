"""Chunk: one `chat.completion.chunk` as JSON text. It is written once for each token and client."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quote
from typing import Any

from api.dialects.base import JobInfo
from api.dialects.chunk_encoder import compact
from api.dialects.openai_chat.ids import call_id, completion_id
from api.dialects.openai_chat.logprobs import logprobs_json
from shared.domain.output import Args, ChoiceOutput, Close, Data, Open, Reasoning, Refusal, Text

_FIELDS = {"text": "content", "reasoning": "reasoning_content", "refusal": "refusal"}
_FIELD_OF_OP = {Text: "content", Reasoning: "reasoning_content", Refusal: "refusal"}
_ROLE = '"role":"assistant","content":""'


class ChunkWriter:
    """Writes the chunks of one job."""

    def __init__(self, job: JobInfo) -> None:
        self._job_id = job.job_id
        #: What every chunk begins with, up to the bracket that opens its choices.
        self.before = (
            f'{{"id":{quote(completion_id(job.job_id))},"object":"chat.completion.chunk",'
            f'"created":{job.created},"model":{quote(job.model)},"choices":['
        )

    def output(self, output: ChoiceOutput, usage: str, *, has_role: bool) -> str | None:
        """Units of one choice; None when there is nothing to say (units without text or logprobs)."""
        finish, logprobs = output.finish, output.logprobs
        delta = self._marked_delta(output, has_role) if output.marks else _plain_delta(output, has_role)
        if finish is None and not logprobs:
            if not delta:
                return None
            return (
                f'{self.before}{{"index":{output.index},"delta":{{{delta}}},"logprobs":null,"finish_reason":null}}]'
                f"{usage}}}"
            )
        return (
            f'{self.before}{{"index":{output.index},"delta":{{{delta}}},'
            f'"logprobs":{compact(logprobs_json(logprobs)) if logprobs else "null"},'
            f'"finish_reason":{"null" if finish is None else quote(finish.reason)}}}]{usage}}}'
        )

    def role(self, choice: int, usage: str) -> str:
        """The first chunk of a choice."""
        delta = f'{{"index":{choice},"delta":{{{_ROLE}}},"logprobs":null,"finish_reason":null}}'
        return f"{self.before}{delta}]{usage}}}"

    def _marked_delta(self, output: ChoiceOutput, has_role: bool) -> str:
        """The members of `delta`. All that the units add is joined, each field and each tool call in its order."""
        delta: dict[str, Any] = {}
        calls: dict[int, dict[str, Any]] = {}
        for _, head, op in output.ops():
            match op:
                case Text(text) | Reasoning(text) | Refusal(text):
                    field = _FIELD_OF_OP[type(op)]
                    delta[field] = delta.get(field, "") + text
                case Open(name, id_):
                    opened = {
                        "id": id_ or call_id(self._job_id, output.index, head.calls),
                        "type": "function",
                    }
                    calls[head.calls] = {
                        "index": head.calls,
                        **opened,
                        "function": {"name": name, "arguments": ""},
                    }
                case Args(text):
                    index = head.calls - 1
                    call = calls.setdefault(index, {"index": index, "function": {"arguments": ""}})
                    call["function"]["arguments"] += text
                case Close() | Data():
                    pass
        if calls:
            delta["tool_calls"] = list(calls.values())
        if has_role:
            delta = {"role": "assistant", "content": None if calls else "", **delta}
        return compact(delta)[1:-1]


def _plain_delta(output: ChoiceOutput, has_role: bool) -> str:
    """The members of `delta` for units without marks."""
    texts, head = output.texts, output.head
    text = texts[0] if len(texts) == 1 else "".join(texts)
    kind = head.kind
    if kind is None or kind == "text":
        if has_role:
            return f'"role":"assistant","content":{quote(text)}'
        return f'"content":{quote(text)}' if text else ""
    if not text:
        added = ""
    elif kind == "args":
        added = f'"tool_calls":[{{"index":{head.calls - 1},"function":{{"arguments":{quote(text)}}}}}]'
    else:
        added = f'"{_FIELDS[kind]}":{quote(text)}'
    if has_role:
        return f"{_ROLE},{added}" if added else _ROLE
    return added
