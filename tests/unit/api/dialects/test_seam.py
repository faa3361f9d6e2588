"""A dialect of another kind, with items and numbered events, is streamed, resumed at every cursor and shown whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from api.dialects.base import Block
from api.streaming.cursor import Cursor
from shared.domain.events import Entry, Output
from shared.domain.output import Args, Close, Open, Reasoning, Refusal
from shared.domain.output import Text as PlainText
from shared.domain.result import Result
from tests.scripted_dialect import STRIDE, ScriptedDialect, whole_of
from tests.unit.api.streams import (
    JOB_ID,
    PROMPT_TOKENS,
    Answers,
    answers_of,
    job_info,
    ops,
    read_all,
    tell,
    texts,
)

DIALECT = ScriptedDialect()
START = Cursor.start(JOB_ID, 1)


class Items:
    """Reads items from entries in memory."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries

    async def text(self, choice: int, item: int, start: int, end: int) -> str:
        found = ""
        for entry in self._entries:
            for output in entry.event.choices if isinstance(entry.event, Output) else ():
                for position, head, op in output.ops() if output.index == choice else ():
                    if not isinstance(op, PlainText | Reasoning | Refusal | Args):
                        continue
                    if start <= position < end and head.after(op, position).item == item:
                        found += op.text
        return found


def stream(entries: list[Entry], start: Cursor = START) -> list[Block]:
    encoder = DIALECT.encoder(job_info(), {}, start, Items(entries))
    return asyncio.run(encoder.encode(read_all(entries, start)))


def read(found: Sequence[Block]) -> list[dict[str, Any]]:
    return [json.loads(block.data) for block in found]


def test_the_events_of_an_answer() -> None:
    units = ((Reasoning("hm"),), "!", "", (PlainText("so"),), (Close(), Open("f"), Args("{")), "}")
    found = read(stream(tell(Answers((units,), ("tool_calls",)), 0)))
    added = {"type": "added", "name": None}
    assert found == [
        {**added, "item": 0, "kind": "reasoning", "number": 0},
        {"type": "delta", "item": 0, "delta": "hm", "offset": 0, "number": 1},
        {"type": "delta", "item": 0, "delta": "!", "offset": 0, "number": STRIDE},
        {"type": "done", "item": 0, "text": "hm!", "number": 3 * STRIDE},
        {**added, "item": 1, "kind": "text", "number": 3 * STRIDE + 1},
        {"type": "delta", "item": 1, "delta": "so", "offset": 0, "number": 3 * STRIDE + 2},
        {"type": "done", "item": 1, "text": "so", "number": 4 * STRIDE},
        {"type": "added", "item": 2, "kind": "args", "name": "f", "number": 4 * STRIDE + 1},
        {"type": "delta", "item": 2, "delta": "{", "offset": None, "number": 4 * STRIDE + 2},
        {"type": "delta", "item": 2, "delta": "}", "offset": None, "number": 5 * STRIDE},
        {"type": "done", "item": 2, "text": "{}", "number": 6 * STRIDE},
        {"type": "finish", "reason": "tool_calls", "number": 6 * STRIDE + 1},
        {"used": [PROMPT_TOKENS, 6, 0, 0], "number": 7 * STRIDE - 1},
    ]


single_answers = answers_of(st.one_of(texts, st.lists(ops, min_size=1, max_size=8).map(tuple)), max_choices=1)


@given(single_answers, st.integers(), st.integers())
def test_streamed_resumed_at_every_cursor_and_whole_all_agree(told: Answers, first: int, second: int) -> None:
    streamed = stream(tell(told, first))
    other = tell(told, second)
    for cut in range(1, len(streamed)):
        cursor = Cursor.decode(streamed[cut - 1].id, JOB_ID, 1)
        assert read([*streamed[:cut], *stream(other, cursor)]) == read(streamed)
        by_number = DIALECT.cursor_after(JOB_ID, read(streamed)[cut - 1]["number"])
        assert read([*streamed[:cut], *stream(other, by_number)]) == read(streamed)
    result = Result.empty(1)
    result.take(told.choices)
    result.used = told.used
    whole = DIALECT.whole(job_info(), {}, Result.decode(result.encode()))
    assert {"id": DIALECT.object_id(JOB_ID), **whole_of(read(streamed))} == whole
