"""A completion's stream, to the byte, and cut anywhere."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from api.dialects.openai_completions.completion import completion
from api.dialects.openai_completions.encoder import CompletionEncoder
from api.dialects.usage import UsageIn
from api.streaming.cursor import Cursor
from shared.domain.events import Cancelled, Completed, Entry, Output, Queued, Started
from shared.domain.output import Candidate, ChoiceOutput, Finish, Head, Text, TokenLogprobs
from shared.domain.result import Result
from shared.domain.usage import Usage
from tests.unit.api.streams import (
    JOB_ID,
    Answers,
    Block,
    answers,
    blocks,
    framed,
    job_info,
    output,
    read_all,
    tell,
)

HEAD = (
    '{"id":"cmpl-AbCdEfGh0123456789012345","object":"text_completion",'
    '"created":1700000000,"model":"m","choices":['
)
USED = Usage(7, 3)
ENTRIES = [
    Entry("1-0", (0,), Queued()),
    Entry("2-0", (0,), Started("w")),
    Entry("2-1", (2,), Output((output(0, 0, "Hi", " é"),)), Usage(7, 2)),
    Entry("2-2", (3,), Output((output(0, 2, "", finish="stop"),)), USED),
    Entry("2-3", (3,), Completed(), USED),
]
START = Cursor.start(JOB_ID, 1)


def encode(entries: list[Entry], start: Cursor = START, *, usage_in: UsageIn = "nothing") -> bytes:
    encoder = CompletionEncoder(job_info(len(start.choices)), start, usage_in=usage_in)
    return framed(asyncio.run(encoder.encode(read_all(entries, start))))


def choices(*outputs: ChoiceOutput) -> list[dict[str, Any]]:
    entries = [Entry(f"2-{number}", (part.end,), Output((part,))) for number, part in enumerate(outputs, 1)]
    return [block.json["choices"][0] for block in blocks(encode([*ENTRIES[:2], *entries]))]


def test_a_stream_to_the_byte() -> None:
    assert encode(ENTRIES).decode() == (
        f'id: 1.AbCdEfGh.2.o.2b\ndata: {HEAD}{{"index":0,"text":"Hi \\u00e9",'
        '"logprobs":null,"finish_reason":null}]}\n\n'
        f'id: 1.AbCdEfGh.2.o.3f\ndata: {HEAD}{{"index":0,"text":"",'
        '"logprobs":null,"finish_reason":"stop"}]}\n\n'
        "id: 1.AbCdEfGh.2.x.3f\ndata: [DONE]\n\n"
    )


def test_usage_is_a_chunk_of_its_own_or_in_every_chunk() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    *chunks, last, _ = blocks(encode(ENTRIES, usage_in="last"))
    assert [block.json["usage"] for block in chunks] == [None, None]
    assert (last.json["choices"], last.json["usage"]) == ([], usage)
    found = blocks(encode(ENTRIES, usage_in="every"))
    assert [block.json["usage"]["completion_tokens"] for block in found[:-1]] == [2, 3, 3]


def test_a_prompt_that_is_echoed_is_text_before_the_first_token() -> None:
    token = TokenLogprobs(Candidate(5, b"So", -0.5))
    first = ChoiceOutput(0, 0, (5,), ("",), None, (token,), Head(), {0: (Text("why? "), Text("So"))})
    (choice,) = choices(first)
    assert choice["text"] == "why? So"
    assert choice["logprobs"] == {
        "tokens": ["So"], "token_logprobs": [-0.5], "top_logprobs": [{"So": -0.5}], "text_offset": [5],
    }  # fmt: skip


def test_offsets_count_the_text_before_the_chunk() -> None:
    half, rest = (TokenLogprobs(Candidate(1, raw, -1.0)) for raw in (b"\xc3", b"\xa9"))
    later = ChoiceOutput(
        0, 0, (1, 2, 1), ("", "é", "x"), None, (half, rest, TokenLogprobs(Candidate(3, b"x", -2.0)))
    )
    (choice,) = choices(later)
    assert choice["logprobs"]["text_offset"] == [0, 0, 1]
    cut = ChoiceOutput(0, 3, (3,), ("y",), None, (TokenLogprobs(Candidate(3, b"y", -2.0)),), later.head_after)
    assert choices(later, cut)[1]["logprobs"]["text_offset"] == [2]


def test_a_job_that_did_not_end_by_itself_is_an_error_without_done() -> None:
    (block,) = blocks(encode([*ENTRIES[:3], Entry("3-0", (2,), Cancelled("client"))], usage_in="last"))[1:]
    assert block.json["error"]["code"] == "job_cancelled"


def shown(found: list[Block], n: int) -> list[tuple[str, list[str]]]:
    """Text and finish reasons of each choice."""
    texts, reasons = [""] * n, [list[str]() for _ in range(n)]
    for block in found:
        for choice in block.json["choices"] if block.data != "[DONE]" else ():
            texts[choice["index"]] += choice["text"]
            reasons[choice["index"]] += [choice["finish_reason"]] if choice["finish_reason"] else []
    return list(zip(texts, reasons, strict=True))


@given(answers, st.integers(), st.integers(), st.integers(0, 60))
def test_both_parts_of_a_cut_stream_are_the_whole(told: Answers, first: int, second: int, cut: int) -> None:
    start = Cursor.start(JOB_ID, told.n)
    whole = blocks(encode(tell(told, first), start))
    before = whole[: min(cut, len(whole) - 1)]
    cursor = Cursor.decode(before[-1].id, JOB_ID, told.n) if before else start
    after = blocks(encode(tell(told, second), cursor))
    result = Result.empty(told.n)
    result.take(told.choices)
    expected = completion(job_info(told.n), {}, result)["choices"]
    assert shown([*before, *after], told.n) == [(c["text"], [c["finish_reason"]]) for c in expected]
    assert after[-1].data == "[DONE]"


def test_the_finish_of_a_choice_is_what_the_whole_says() -> None:
    (choice,) = choices(ChoiceOutput(0, 0, (1,), ("a",), Finish("stop", "\n")))
    assert (choice["text"], choice["finish_reason"]) == ("a", "stop")
