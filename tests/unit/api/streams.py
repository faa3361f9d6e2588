"""Job streams made by hand, and by hypothesis."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hypothesis import strategies as st

from api.delivery import sse
from api.dialects.base import Block as Event
from api.dialects.base import JobInfo
from api.streaming.cursor import Cursor
from api.streaming.updates import Update, advance
from shared.domain.events import Completed, Entry, Incomplete, Output, Queued, Requeued, Resumed, Started
from shared.domain.output import (
    Args,
    Candidate,
    ChoiceOutput,
    Close,
    Finish,
    Head,
    Op,
    Open,
    Reasoning,
    Refusal,
    TokenLogprobs,
)
from shared.domain.output import Text as PlainText
from shared.domain.usage import Usage

JOB_ID = "job_AbCdEfGh0123456789012345"
ENDPOINT = "/v1/chat/completions"
PROMPT_TOKENS = 11
START = Head()


def job_info(n: int = 1) -> JobInfo:
    return JobInfo(JOB_ID, ENDPOINT, "m", 1_700_000_000, n)


def output(
    index: int,
    start: int,
    *texts: str,
    finish: str | None = None,
    first_id: int = 100,
    has_logprobs: bool = False,
    head: Head = START,
    marks: dict[int, tuple[Op, ...]] | None = None,
) -> ChoiceOutput:
    ids = tuple(range(first_id + start, first_id + start + len(texts)))
    told = tuple(map(logprobs, ids)) if has_logprobs else None
    return ChoiceOutput(
        index, start, ids, texts, None if finish is None else Finish(finish), told, head, marks
    )


def logprobs(token_id: int) -> TokenLogprobs:
    """What is told of a token: its bytes are half of a character, its second candidate is hardly possible."""
    chosen = Candidate(token_id, bytes([0xC3, token_id]), -token_id / 8)
    return TokenLogprobs(chosen, (Candidate(1, b"a", -0.5), Candidate(2, b"", -1e9)))


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


def framed(events: Iterable[Event]) -> bytes:
    """Events as the SSE sink writes them."""
    return b"".join([sse.frame(event) for event in events])


def blocks(raw: bytes) -> list[Block]:
    """SSE blocks; each has data."""
    found = []
    for part in raw.decode().split("\n\n")[:-1]:
        lines = [line for line in part.split("\n") if not line.startswith(":")]
        fields = dict([line.split(": ", 1) for line in lines])
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
    reasoning: dict[int, str] = field(default_factory=dict)
    refusals: dict[int, str] = field(default_factory=dict)
    #: By choice and call.
    calls: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Sequence[Block]) -> Text:
        text = cls({}, {}, {}, [], sum(block.data == "[DONE]" for block in found))
        for block in found:
            if block.data == "[DONE]":
                continue
            for choice in block.json["choices"]:
                text._take(choice)
            if block.json.get("usage"):
                text.usage.append(block.json["usage"])
        return text

    def _take(self, choice: dict[str, Any]) -> None:
        index, delta = choice["index"], choice["delta"]
        self.texts[index] = self.texts.get(index, "") + (delta.get("content") or "")
        self.roles[index] = self.roles.get(index, 0) + ("role" in delta)
        for name, texts in (("reasoning_content", self.reasoning), ("refusal", self.refusals)):
            if name in delta:
                texts[index] = texts.get(index, "") + delta[name]
        for call in delta.get("tool_calls", ()):
            self._take_call(index, call)
        if choice["logprobs"]:
            assert choice["logprobs"]["refusal"] is None
            self.logprobs.setdefault(index, []).extend(choice["logprobs"]["content"])
        if choice["finish_reason"]:
            self.finish.setdefault(index, []).append(choice["finish_reason"])

    def _take_call(self, index: int, call: dict[str, Any]) -> None:
        key = index, call["index"]
        if "id" in call:
            assert key not in self.calls and call["index"] == sum(known[0] == index for known in self.calls)
            self.calls[key] = {"id": call["id"], "type": call["type"], "function": dict(call["function"])}
        else:
            assert list(call["function"]) == ["arguments"]
            self.calls[key]["function"]["arguments"] += call["function"]["arguments"]


#: What one unit adds: plain text, or operations.
Unit = str | tuple[Op, ...]


@dataclass(frozen=True)
class Answers:
    """The units and the finish reason of each choice."""

    tokens: tuple[tuple[Unit, ...], ...]
    finish: tuple[str, ...]
    has_logprobs: bool = False

    @property
    def n(self) -> int:
        return len(self.tokens)

    @property
    def used(self) -> Usage:
        return Usage(PROMPT_TOKENS, sum(map(len, self.tokens)))

    @property
    def logprobs(self) -> dict[int, list[Any]]:
        """As clients read them, of each choice that has some."""
        told = enumerate(self.tokens) if self.has_logprobs else ()
        return {
            index: [shown_logprobs(100 + position) for position in range(len(units))]
            for index, units in told
            if units
        }

    def choice(self, index: int) -> ChoiceOutput:
        """A choice in one piece."""
        return piece(self, index, 0, len(self.tokens[index]), START, finish=self.finish[index])

    @property
    def choices(self) -> list[ChoiceOutput]:
        return [self.choice(index) for index in range(self.n)]


texts = st.sampled_from(["", "a", "é", "\n", '"', "\u2028", "data: x\n\n", "漢"])
ops = st.one_of(
    *[st.builds(kind, texts) for kind in (PlainText, Reasoning, Refusal)],
    st.builds(Open, st.sampled_from(["f", "get"]), st.sampled_from([None, "call_x"])),
    st.builds(Args, texts),
    st.just(Close()),
)


def _follows(units: list[Unit]) -> bool:
    """Whether arguments come only while a call is open."""
    head = Head()
    for unit in units:
        for op in unit if isinstance(unit, tuple) else ():
            if isinstance(op, Args) and head.kind != "args":
                return False
            head = head.after(op, 0)
        if isinstance(unit, str) and unit and head.kind is None:
            head = head.after(PlainText(unit), 0)
    return True


def answers_of(unit: st.SearchStrategy[Any], *, max_choices: int = 3) -> st.SearchStrategy[Answers]:
    """Answers whose units are drawn from `unit`."""
    choice = st.tuples(
        st.lists(unit, max_size=6).filter(_follows), st.sampled_from(["stop", "length", "tool_calls", "new"])
    )
    return st.builds(
        lambda parts, has: Answers(tuple(tuple(p[0]) for p in parts), tuple(p[1] for p in parts), has),
        st.lists(choice, min_size=1, max_size=max_choices),
        st.booleans(),
    )


#: Plain text alone.
answers = answers_of(texts)
#: All kinds of parts.
rich_answers = answers_of(st.one_of(texts, st.lists(ops, min_size=1, max_size=4).map(tuple)))


def tell(told: Answers, seed: int) -> list[Entry]:
    """One of the many streams that tell these answers: other steps, other changes of hands."""
    random = Random(seed)
    fence, number, end = 2, 0, [0] * told.n
    finished, heads = [False] * told.n, [START] * told.n
    entries = [Entry("1-0", tuple(end), Queued()), Entry("2-0", tuple(end), Started("w"))]
    while not all(finished):
        used = Usage(PROMPT_TOKENS, sum(end))
        if random.random() < 0.15:
            entries += [
                Entry(f"{fence + 1}-0", tuple(end), Requeued("worker_died"), used),
                Entry(f"{fence + 2}-0", tuple(end), Resumed("w", 2), used),
            ]
            fence, number = fence + 2, 0
        parts = [part for index in range(told.n) for part in _step(random, told, index, end, finished, heads)]
        if parts:
            number += 1
            used = Usage(PROMPT_TOKENS, sum(end))
            entries.append(Entry(f"{fence}-{number}", tuple(end), Output(tuple(parts)), used))
    last = Incomplete if "length" in told.finish else Completed
    return [*entries, Entry(f"{fence}-{number + 1}", tuple(end), last(), told.used)]


def _step(
    random: Random, told: Answers, index: int, end: list[int], finished: list[bool], heads: list[Head]
) -> list[ChoiceOutput]:
    start, units = end[index], told.tokens[index]
    if finished[index]:
        return []
    size = random.randint(0, len(units) - start)
    is_last = start + size == len(units) and random.random() < 0.5
    if size == 0 and not is_last:
        return []
    end[index], finished[index] = start + size, is_last
    part = piece(
        told, index, start, start + size, heads[index], finish=told.finish[index] if is_last else None
    )
    heads[index] = part.head_after
    return [part]


def piece(
    told: Answers, index: int, start: int, end: int, head: Head, *, finish: str | None = None
) -> ChoiceOutput:
    """Some units of a choice."""
    units = told.tokens[index][start:end]
    texts = ["" if isinstance(unit, tuple) else unit for unit in units]
    marks = {offset: unit for offset, unit in enumerate(units) if isinstance(unit, tuple)}
    return output(
        index, start, *texts, finish=finish, has_logprobs=told.has_logprobs, head=head, marks=marks or None
    )
