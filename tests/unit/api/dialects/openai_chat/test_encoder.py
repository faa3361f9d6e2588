"""A chat's stream, to the byte, and cut anywhere."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.dialects.openai_chat.completion import completion
from api.dialects.openai_chat.encoder import ChatEncoder
from api.dialects.openai_chat.ids import call_id
from api.dialects.usage import UsageIn
from api.streaming.cursor import Cursor
from shared.domain.events import Cancelled, Completed, Entry, Failed, Output, Queued, Requeued, Started
from shared.domain.output import Args, Close, Head, Op, Open, Reasoning, Refusal
from shared.domain.output import Text as PlainText
from shared.domain.result import Result
from shared.domain.usage import Usage
from shared.errors import ErrorInfo
from tests.unit.api.streams import (
    JOB_ID,
    PROMPT_TOKENS,
    Answers,
    Block,
    Text,
    answers,
    blocks,
    framed,
    job_info,
    output,
    read_all,
    rich_answers,
    shown_logprobs,
    tell,
)

HEAD = (
    '{"id":"chatcmpl-AbCdEfGh0123456789012345","object":"chat.completion.chunk",'
    '"created":1700000000,"model":"m","choices":['
)
USED = Usage(7, 4)
ENTRIES = [
    Entry("1-0", (0,), Queued()),
    Entry("2-0", (0,), Started("w")),
    Entry("2-1", (2,), Output((output(0, 0, "Hi", " \n"),)), Usage(7, 2)),
    Entry("2-2", (3,), Output((output(0, 2, ""),)), Usage(7, 3)),
    Entry("2-3", (4,), Output((output(0, 3, "é"),)), USED),
    Entry("2-4", (4,), Output((output(0, 4, finish="stop"),)), USED),
    Entry("2-5", (4,), Completed(), USED),
]
START = Cursor.start(JOB_ID, 1)


def encode(entries: list[Entry], start: Cursor = START, *, usage_in: UsageIn = "nothing") -> bytes:
    encoder = ChatEncoder(job_info(len(start.choices)), start, usage_in=usage_in)
    return framed(asyncio.run(encoder.encode(read_all(entries, start))))


def deltas(*outputs: Any) -> list[dict[str, Any]]:
    """Of one choice that is read from its beginning."""
    entries = [Entry(f"2-{number}", (part.end,), Output((part,))) for number, part in enumerate(outputs, 1)]
    found = blocks(encode([*ENTRIES[:2], *entries]))
    return [block.json["choices"][0]["delta"] for block in found]


def test_a_stream_to_the_byte() -> None:
    assert encode(ENTRIES).decode() == (
        f'id: 1.AbCdEfGh.2.o.2b\ndata: {HEAD}{{"index":0,"delta":{{"role":"assistant","content":"Hi \\n"}},'
        '"logprobs":null,"finish_reason":null}]}\n\n'
        f'id: 1.AbCdEfGh.2.o.4b\ndata: {HEAD}{{"index":0,"delta":{{"content":"\\u00e9"}},'
        '"logprobs":null,"finish_reason":null}]}\n\n'
        f'id: 1.AbCdEfGh.2.o.4f\ndata: {HEAD}{{"index":0,"delta":{{}},'
        '"logprobs":null,"finish_reason":"stop"}]}\n\n'
        "id: 1.AbCdEfGh.2.x.4f\ndata: [DONE]\n\n"
    )


def test_usage_is_a_chunk_of_its_own() -> None:
    found = blocks(encode(ENTRIES, usage_in="last"))
    usage = {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}
    assert (found[-2].json["choices"], found[-2].json["usage"]) == ([], usage)
    assert all(block.json["usage"] is None for block in found[:-2])
    assert [block.id for block in found[-2:]] == ["1.AbCdEfGh.2.u.4f", "1.AbCdEfGh.2.x.4f"]


def test_usage_so_far_is_in_every_chunk_where_asked_for() -> None:
    found = blocks(encode(ENTRIES, usage_in="every"))
    assert [block.json["usage"]["completion_tokens"] for block in found[:-1]] == [2, 4, 4, 4]
    assert [block.json["usage"]["prompt_tokens"] for block in found[:-1]] == [7] * 4


def test_a_first_token_without_text_still_begins() -> None:
    assert deltas(output(0, 0, "")) == [{"role": "assistant", "content": ""}]


def test_a_token_without_text_still_has_its_logprobs() -> None:
    told = output(0, 2, "", has_logprobs=True)
    entries = [*ENTRIES[:3], Entry("2-2", (3,), Output((told,)))]
    assert blocks(encode(entries))[1].json["choices"] == [
        {
            "index": 0,
            "delta": {},
            "logprobs": {"content": [shown_logprobs(102)], "refusal": None},
            "finish_reason": None,
        }
    ]


def test_each_kind_of_plain_text_has_its_field() -> None:
    call = Head(1, "args", 2, 1)
    assert deltas(output(0, 0, "a", head=Head(0, "reasoning"))) == [
        {"role": "assistant", "content": "", "reasoning_content": "a"}
    ]
    assert deltas(output(0, 0, ""), output(0, 1, "a", head=Head(0, "reasoning")))[1:] == [
        {"reasoning_content": "a"}
    ]
    assert deltas(output(0, 0, ""), output(0, 1, "a", head=Head(0, "refusal")))[1:] == [{"refusal": "a"}]
    assert deltas(output(0, 0, ""), output(0, 1, "{", "}", head=call))[1:] == [
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]}
    ]


def test_operations_of_some_units_are_one_delta() -> None:
    marks: dict[int, tuple[Op, ...]] = {
        0: (Reasoning("hm"), PlainText("so"), Refusal("no")),
        2: (Close(), Open("f"), Args("{")),
        4: (Close(), Open("g", "call_g")),
    }
    (first, second) = deltas(
        output(0, 0, "", "!", "", "}", "", marks=marks), output(0, 5, "[", "]", head=Head(5, "args", 2, 4))
    )
    assert first == {
        "role": "assistant",
        "content": "so",
        "reasoning_content": "hm",
        "refusal": "no!",
        "tool_calls": [
            {
                "index": 0,
                "id": call_id(JOB_ID, 0, 0),
                "type": "function",
                "function": {"name": "f", "arguments": "{}"},
            },
            {"index": 1, "id": "call_g", "type": "function", "function": {"name": "g", "arguments": ""}},
        ],
    }
    assert second == {"tool_calls": [{"index": 1, "function": {"arguments": "[]"}}]}


def test_a_stream_that_begins_with_a_call_has_no_content() -> None:
    assert deltas(output(0, 0, "", marks={0: (Open("f"),)}))[0]["content"] is None


def test_the_roles_of_all_choices_come_first_and_in_order() -> None:
    start = Cursor.start(JOB_ID, 3)
    entries = [
        Entry("2-1", (0, 0, 1), Output((output(2, 0, "c"),))),
        Entry("2-2", (1, 0, 1), Output((output(0, 0, "a"),))),
    ]
    found = blocks(encode(entries, start._replace(marker=2)))
    choices = [block.json["choices"][0] for block in found]
    assert [(choice["index"], choice["delta"]) for choice in choices] == [
        *[(index, {"role": "assistant", "content": ""}) for index in range(3)],
        (2, {"content": "c"}),
        (0, {"content": "a"}),
    ]
    assert [block.id.partition(".2.o.")[2] for block in found] == [
        "0b.0n.0n",
        "0b.0b.0n",
        "0b.0b.0b",
        "0b.0b.1b",
        "1b.0b.1b",
    ]


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (Failed(ErrorInfo("gone", code="worker_lost")), "worker_lost"),
        (Cancelled("client"), "job_cancelled"),
        (Cancelled("a newer reason"), "job_cancelled"),
    ],
)
def test_a_job_that_did_not_end_by_itself_is_an_error_without_done(event: Any, code: str) -> None:
    entries = [*ENTRIES[:3], Entry("2-2" if isinstance(event, Failed) else "3-0", (2,), event)]
    (block,) = blocks(encode(entries, usage_in="last"))[1:]
    assert block.json["error"]["code"] == code
    assert list(block.json["error"]) == ["message", "type", "param", "code"]


def whole_of(told: Answers) -> Text:
    """What a client should have in the end, by the whole answer."""
    result = Result.empty(told.n)
    result.take(told.choices)
    text = Text({}, dict.fromkeys(range(told.n), 1), {}, [], 1, told.logprobs)
    for choice in completion(job_info(told.n), result)["choices"]:
        index, message = choice["index"], choice["message"]
        text.texts[index], text.finish[index] = message["content"] or "", [choice["finish_reason"]]
        for number, call in enumerate(message.get("tool_calls", ())):
            text.calls[index, number] = call
        for name, texts in (("reasoning_content", text.reasoning), ("refusal", text.refusals)):
            if message.get(name):
                texts[index] = message[name]
    return text


@given(st.one_of(answers, rich_answers), st.integers(), st.integers(), st.integers(0, 60), st.booleans())
def test_both_parts_of_a_cut_stream_are_the_whole(
    told: Answers, first: int, second: int, cut: int, has_usage: bool
) -> None:
    start, usage_in = Cursor.start(JOB_ID, told.n), "last" if has_usage else "nothing"
    whole = blocks(encode(tell(told, first), start, usage_in=usage_in))  # type: ignore[arg-type]
    before = whole[:cut]
    if before and before[-1].data == "[DONE]":
        before = before[:-1]
    cursor = Cursor.decode(before[-1].id, JOB_ID, told.n) if before else start
    after = blocks(encode(tell(told, second), cursor, usage_in=usage_in))  # type: ignore[arg-type]
    both, expected = Text.of([*before, *after]), whole_of(told)
    tokens = sum(map(len, told.tokens))
    if has_usage:
        usage = {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": tokens,
            "total_tokens": PROMPT_TOKENS + tokens,
        }
        expected.usage.append(usage)
    for texts in (both.reasoning, both.refusals):
        for index in [index for index, text in texts.items() if not text]:
            del texts[index]
    assert both == expected
    assert _first_chunks([*before, *after]) == list(range(told.n))


def _first_chunks(found: list[Block]) -> list[int]:
    """Choices in the order in which they begin, which is what OpenAI's Python client depends on."""
    indices = [block.json["choices"][0]["index"] for block in found if '"choices":[{' in block.data]
    return list(dict.fromkeys(indices))


def test_changes_of_hands_are_not_shown() -> None:
    entries = [*ENTRIES[:3], Entry("3-0", (2,), Requeued("drain"))]
    assert len(blocks(encode(entries))) == 1
