"""Job streams made by hand, and by hypothesis."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hypothesis import strategies as st

from api.dialects.openai_chat.chunks import JobInfo
from api.streaming.cursor import Cursor
from api.streaming.updates import Update, advance
from shared.domain.events import (
    Candidate,
    ChoiceOutput,
    Completed,
    Entry,
    FinishReason,
    Incomplete,
    Output,
    Queued,
    Requeued,
    Resumed,
    Started,
    TokenLogprobs,
)

JOB_ID = "job_AbCdEfGh0123456789012345"
PROMPT_TOKENS = 11


def job_info(n: int = 1) -> JobInfo:
    return JobInfo(JOB_ID, "m", 1_700_000_000, n)


def output(
    index: int,
    start: int,
    *texts: str,
    finish: FinishReason | None = None,
    first_id: int = 100,
    has_logprobs: bool = False,
) -> ChoiceOutput:
    ids = tuple(range(first_id + start, first_id + start + len(texts)))
    told = tuple(map(logprobs, ids)) if has_logprobs else None
    return ChoiceOutput(index, start, ids, texts, finish, told)


def logprobs(token_id: int) -> TokenLogprobs:
    """What is told of a token: its bytes are half of a character, its second candidate is impossible."""
    chosen = Candidate(token_id, bytes([0xC3, token_id]), -token_id / 8)
    return TokenLogprobs(chosen, (Candidate(1, b"a", -0.5), Candidate(2, b"", float("-inf"))))


def shown_logprobs(token_id: int) -> dict[str, Any]:
    """The same as OpenAI's clients read it."""
    raw = bytes([0xC3, token_id])
    return {
        "token": raw.decode("utf-8", "replace"),
        "logprob": -token_id / 8,
        "bytes": list(raw),
        "top_logprobs": [
            {"token": "a", "logprob": -0.5, "bytes": [97]},
            {"token": "", "logprob": -9999.0, "bytes": []},
        ],
    }


def read_all(entries: Iterable[Entry], cursor: Cursor) -> list[Update]:
    """What a reader at `cursor` learns; fails on a gap."""
    news: list[Update] = []
    for entry in entries:
        found = advance(cursor, entry)
        assert found is not None, entry
        news += found
        cursor = found[-1].cursor if found else cursor
    return news


@dataclass(frozen=True)
class Block:
    """One SSE block."""

    id: str
    data: str
    event: str | None = None

    @property
    def json(self) -> Any:
        return json.loads(self.data)


def blocks(raw: bytes) -> list[Block]:
    """SSE blocks; each has data."""
    found = []
    for part in raw.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in part.split("\n") if not line.startswith(":"))
        found.append(Block(fields["id"], fields["data"], fields.get("event")))
    return found


@dataclass(frozen=True)
class Text:
    """What a chat's chunks amount to."""

    texts: dict[int, str]
    roles: dict[int, int]
    finish: dict[int, list[str]]
    usage: list[Any]
    num_done: int
    logprobs: dict[int, list[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Sequence[Block]) -> Text:
        text = cls({}, {}, {}, [], sum(block.data == "[DONE]" for block in found))
        for block in found:
            if block.data == "[DONE]":
                continue
            for choice in block.json["choices"]:
                index, delta = choice["index"], choice["delta"]
                text.texts[index] = text.texts.get(index, "") + delta.get("content", "")
                text.roles[index] = text.roles.get(index, 0) + ("role" in delta)
                if choice["logprobs"]:
                    assert choice["logprobs"]["refusal"] is None
                    text.logprobs.setdefault(index, []).extend(choice["logprobs"]["content"])
                if choice["finish_reason"]:
                    text.finish.setdefault(index, []).append(choice["finish_reason"])
            if block.json.get("usage"):
                text.usage.append(block.json["usage"])
        return text


@dataclass(frozen=True)
class Answers:
    """The token texts and finish reason of each choice."""

    tokens: tuple[tuple[str, ...], ...]
    finish: tuple[FinishReason, ...]
    has_logprobs: bool = False

    @property
    def n(self) -> int:
        return len(self.tokens)

    @property
    def logprobs(self) -> dict[int, list[Any]]:
        """As clients read them, of each choice that has some."""
        told = enumerate(self.tokens) if self.has_logprobs else ()
        return {
            index: [shown_logprobs(100 + place) for place in range(len(texts))]
            for index, texts in told
            if texts
        }


answers = st.builds(
    lambda parts, has: Answers(tuple(tuple(p[0]) for p in parts), tuple(p[1] for p in parts), has),
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["", "a", "é", "\n", '"', "\u2028", "data: x\n\n", "漢"]), max_size=6),
            st.sampled_from(["stop", "length"]),
        ),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
)


def tell(told: Answers, seed: int) -> list[Entry]:
    """One of the many streams that tell these answers: other steps, other changes of hands."""
    random = Random(seed)
    fence, number, end = 2, 0, [0] * told.n
    finished = [False] * told.n
    entries = [Entry("1-0", tuple(end), Queued()), Entry("2-0", tuple(end), Started("w"))]
    while not all(finished):
        if random.random() < 0.15:
            entries += [
                Entry(f"{fence + 1}-0", tuple(end), Requeued("worker_died")),
                Entry(f"{fence + 2}-0", tuple(end), Resumed("w", 2)),
            ]
            fence, number = fence + 2, 0
        parts = [part for index in range(told.n) for part in _step(random, told, index, end, finished)]
        if parts:
            number += 1
            entries.append(Entry(f"{fence}-{number}", tuple(end), Output(tuple(parts))))
    last = Incomplete if "length" in told.finish else Completed
    return [*entries, Entry(f"{fence}-{number + 1}", tuple(end), last(PROMPT_TOKENS))]


def _step(
    random: Random, told: Answers, index: int, end: list[int], finished: list[bool]
) -> list[ChoiceOutput]:
    start, tokens = end[index], told.tokens[index]
    if finished[index]:
        return []
    size = random.randint(0, len(tokens) - start)
    is_last = start + size == len(tokens) and random.random() < 0.5
    if size == 0 and not is_last:
        return []
    end[index], finished[index] = start + size, is_last
    finish = told.finish[index] if is_last else None
    texts = tokens[start : start + size]
    return [output(index, start, *texts, finish=finish, has_logprobs=told.has_logprobs)]
