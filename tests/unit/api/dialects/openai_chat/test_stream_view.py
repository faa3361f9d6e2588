"""A chat's stream, to the byte, and cut anywhere."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.dialects.openai_chat.stream_view import ChatStreamView
from api.streaming.cursor import Cursor
from shared.domain.events import Cancelled, Completed, Entry, Failed, Output, Queued, Started
from shared.errors import ErrorInfo
from tests.unit.api.streams import (
    JOB_ID,
    PROMPT_TOKENS,
    Answers,
    Text,
    answers,
    blocks,
    job_info,
    output,
    read_all,
    shown_logprobs,
    tell,
)

HEAD = (
    '{"id":"chatcmpl-AbCdEfGh0123456789012345","object":"chat.completion.chunk",'
    '"created":1700000000,"model":"m","choices":['
)
ENTRIES = [
    Entry("1-0", (0,), Queued()),
    Entry("2-0", (0,), Started("w")),
    Entry("2-1", (2,), Output((output(0, 0, "Hi", " \n"),))),
    Entry("2-2", (3,), Output((output(0, 2, ""),))),
    Entry("2-3", (4,), Output((output(0, 3, "é"),))),
    Entry("2-4", (4,), Output((output(0, 4, finish="stop"),))),
    Entry("2-5", (4,), Completed(7)),
]


def encode(entries: list[Entry], start: Cursor, *, include_usage: bool) -> bytes:
    view = ChatStreamView(job_info(len(start.choices)), start, include_usage=include_usage)
    return view.encode(read_all(entries, start))


def test_a_stream_to_the_byte() -> None:
    raw = encode(ENTRIES, Cursor.start(JOB_ID, 1), include_usage=False).decode()
    assert raw == (
        f'id: 1.AbCdEfGh.2.o.2b\ndata: {HEAD}{{"index":0,"delta":{{"role":"assistant","content":"Hi \\n"}},'
        '"logprobs":null,"finish_reason":null}]}\n\n'
        f'id: 1.AbCdEfGh.2.o.4b\ndata: {HEAD}{{"index":0,"delta":{{"content":"\\u00e9"}},'
        '"logprobs":null,"finish_reason":null}]}\n\n'
        f'id: 1.AbCdEfGh.2.o.4f\ndata: {HEAD}{{"index":0,"delta":{{}},'
        '"logprobs":null,"finish_reason":"stop"}]}\n\n'
        "id: 1.AbCdEfGh.2.x.4f\ndata: [DONE]\n\n"
    )


def test_usage_is_a_chunk_of_its_own() -> None:
    found = blocks(encode(ENTRIES, Cursor.start(JOB_ID, 1), include_usage=True))
    usage = {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}
    assert (found[-2].json["choices"], found[-2].json["usage"]) == ([], usage)
    assert all(block.json["usage"] is None for block in found[:-2])
    assert [block.id for block in found[-2:]] == ["1.AbCdEfGh.2.u.4f", "1.AbCdEfGh.2.x.4f"]


def test_a_first_token_without_text_still_begins() -> None:
    start = Cursor.start(JOB_ID, 1)
    found = blocks(
        encode([*ENTRIES[:2], Entry("2-1", (1,), Output((output(0, 0, ""),)))], start, include_usage=False)
    )
    assert [block.json["choices"][0]["delta"] for block in found] == [{"role": "assistant", "content": ""}]


def test_a_token_without_text_still_has_its_logprobs() -> None:
    told = output(0, 2, "", has_logprobs=True)
    entries = [*ENTRIES[:3], Entry("2-2", (3,), Output((told,)))]
    found = blocks(encode(entries, Cursor.start(JOB_ID, 1), include_usage=False))
    assert found[1].json["choices"] == [
        {
            "index": 0,
            "delta": {},
            "logprobs": {"content": [shown_logprobs(102)], "refusal": None},
            "finish_reason": None,
        }
    ]


def test_a_failure_is_an_error_without_done() -> None:
    start = Cursor.start(JOB_ID, 1)
    entries = [*ENTRIES[:3], Entry("2-2", (2,), Failed(ErrorInfo("gone", code="worker_lost")))]
    found = blocks(encode(entries, start, include_usage=True))
    error = {"message": "gone", "type": "server_error", "param": None, "code": "worker_lost"}
    assert [block.json for block in found[1:]] == [{"error": error}]


def test_a_cancelled_chat_is_an_error() -> None:
    entries = [*ENTRIES[:3], Entry("3-0", (2,), Cancelled("client"))]
    found = blocks(encode(entries, Cursor.start(JOB_ID, 1), include_usage=False))
    assert found[-1].json["error"]["code"] == "job_cancelled"


@given(answers, st.integers(), st.integers(), st.integers(0, 40), st.booleans())
def test_both_parts_of_a_cut_stream_are_the_whole(
    told: Answers, first: int, second: int, cut: int, include_usage: bool
) -> None:
    start = Cursor.start(JOB_ID, told.n)
    whole = blocks(encode(tell(told, first), start, include_usage=include_usage))
    before = whole[:cut]
    if before and before[-1].data == "[DONE]":
        before = before[:-1]
    cursor = Cursor.decode(before[-1].id, JOB_ID, told.n) if before else start
    after = blocks(encode(tell(told, second), cursor, include_usage=include_usage))
    both = Text.of([*before, *after])
    tokens = sum(map(len, told.tokens))
    usage = {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": tokens,
        "total_tokens": PROMPT_TOKENS + tokens,
    }
    assert both == Text(
        texts={index: "".join(texts) for index, texts in enumerate(told.tokens)},
        roles=dict.fromkeys(range(told.n), 1),
        finish={index: [finish] for index, finish in enumerate(told.finish)},
        usage=[usage] if include_usage else [],
        num_done=1,
        logprobs=told.logprobs,
    )
