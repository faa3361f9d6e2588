"""ScriptedDialect: a second user of the dialects' seam, of the kind of Responses: items, full text when an item closes,
numbered events. It exists for tests alone.

Event k of the unit at position p has the number 64 · p + k. What ends a choice comes at the position behind its last
unit, and the end of the job has the last number there.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response

from api.answers.endpoint import answer_object, answer_object_events, answer_request
from api.app import create_app
from api.dependencies import READS, ExchangeDep, read_json
from api.dialects.base import Block, ItemReader, JobInfo, Parsed, View
from api.dialects.openai_chat.dialect import OpenAIChat
from api.dialects.registry import Dialects
from api.errors import error_of
from api.http.validation import Schema, validate
from api.settings import ApiSettings
from api.streaming.cursor import ChoiceCursor, Cursor
from api.streaming.updates import EndEvent, Update
from shared.domain.output import Args, ChoiceOutput, Close, Data, Head, Op, Open
from shared.domain.request import GenerationRequest, SamplingOptions, TextPrompt
from shared.domain.result import Item, Result
from shared.errors import ErrorInfo

#: Numbers that one position has.
STRIDE = 64


class ScriptedRequest(Schema):
    """A body."""

    model: str
    text: str
    stream: bool = False
    max_tokens: int | None = None


class ScriptedDialect:
    """Implements `api.dialects.base.Dialect`."""

    endpoint = "/v1/scripted"

    def parse(self, fields: dict[str, Any], *, prefix: str = "") -> Parsed:
        ignored: list[str] = []
        asked = validate(ScriptedRequest, fields, prefix=prefix, ignored=ignored)
        request = GenerationRequest(
            (TextPrompt(asked.text),), sampling=SamplingOptions(max_tokens=asked.max_tokens)
        )
        return Parsed(asked.model, request, is_streamed=asked.stream, ignored=tuple(ignored))

    def encoder(self, job: JobInfo, view: View, start: Cursor, items: ItemReader) -> ScriptedEncoder:  # noqa: ARG002
        return ScriptedEncoder(job, start, items)

    def whole(self, job: JobInfo, view: View, result: Result) -> dict[str, Any]:  # noqa: ARG002
        (choice,) = result.choices
        assert choice.finish is not None
        return {
            "id": self.object_id(job.job_id),
            "items": [_item_json(item) for item in choice.items],
            "finish": choice.finish.reason,
            "used": list(result.used),
        }

    def error(self, info: ErrorInfo) -> dict[str, Any]:
        return {"oops": info.message, "code": info.code}

    def object_id(self, job_id: str) -> str:
        return "scr-" + job_id.removeprefix("job_")

    def job_id(self, object_id: str) -> str | None:
        return "job_" + object_id.removeprefix("scr-") if object_id.startswith("scr-") else None

    def cursor_after(self, job_id: str, number: int) -> Cursor:
        """Where a client stands that has read the event with this number."""
        position, k = divmod(number, STRIDE)
        start = Cursor.start(job_id, 1)
        return start._replace(choices=(ChoiceCursor(position, "begun"),), num_sent=k + 1)


class ScriptedEncoder:
    """Implements `api.dialects.base.Encoder`."""

    def __init__(self, job: JobInfo, start: Cursor, items: ItemReader) -> None:
        assert job.n == 1
        self._items = items
        #: Events that were sent already of the unit at the position.
        self._position, self._num_sent = start.positions[0], start.num_sent

    async def encode(self, updates: Sequence[Update]) -> list[Block]:
        return [block for update in updates async for block in self._blocks(update)]

    def error(self, info: ErrorInfo, cursor: Cursor) -> Block:
        return Block(json.dumps({"oops": info.message}), cursor.encode(), "error")

    async def _blocks(self, update: Update) -> AsyncIterator[Block]:
        event = update.event
        if isinstance(event, ChoiceOutput):
            async for block in self._output(event, update.cursor):
                yield block
        elif isinstance(event, EndEvent):
            error = error_of(event)
            if error is not None:
                yield self.error(error, update.cursor)
                return
            number = STRIDE * update.cursor.positions[0] + STRIDE - 1
            data = {"used": list(update.used), "number": number}
            yield Block(json.dumps(data), update.cursor.encode(), "end")

    async def _output(self, output: ChoiceOutput, cursor: Cursor) -> AsyncIterator[Block]:
        units: dict[int, list[dict[str, Any]]] = {}
        for position, head, op in output.ops():
            units.setdefault(position, []).extend([event async for event in self._events(op, head, position)])
        for position, events in units.items():
            behind = cursor.with_choice(0, ChoiceCursor(position + 1, "begun"))
            for block in self._numbered(events, position, behind):
                yield block
        if output.finish is not None:
            head, ends = output.head_after, list[dict[str, Any]]()
            if head.kind is not None:
                ends.append(await self._done(head, output.end - 1))
            ends.append({"type": "finish", "reason": output.finish.reason})
            for block in self._numbered(ends, output.end, cursor):
                yield block

    def _numbered(self, events: list[dict[str, Any]], position: int, behind: Cursor) -> list[Block]:
        """The events of one unit that the client does not have. `behind`: the cursor once it has them all."""
        within = behind.with_choice(0, ChoiceCursor(position, "begun"))
        cursors = [*[within._replace(num_sent=k) for k in range(1, len(events))], behind][: len(events)]
        num_sent = self._num_sent if position == self._position else 0
        return [
            Block(json.dumps({**event, "number": STRIDE * position + k}), cursor.encode(), event["type"])
            for k, (event, cursor) in enumerate(zip(events, cursors, strict=True))
            if k >= num_sent
        ]

    async def _events(self, op: Op, head: Head, position: int) -> AsyncIterator[dict[str, Any]]:
        after = head.after(op, position)
        is_new = not isinstance(op, Close | Data) and (head.kind is None or after.item != head.item)
        if head.kind is not None and (is_new or isinstance(op, Close)):
            yield await self._done(head, position)
        if is_new:
            name = op.name if isinstance(op, Open) else None
            yield {"type": "added", "item": after.item, "kind": after.kind, "name": name}
        if not isinstance(op, Open | Close | Data):
            offset = None if isinstance(op, Args) else head.chars
            yield {"type": "delta", "item": after.item, "delta": op.text, "offset": offset}

    async def _done(self, head: Head, position: int) -> dict[str, Any]:
        """An item closes, within the unit at `position` or behind it."""
        text = await self._items.text(0, head.item, head.item_start, position + 1)
        return {"type": "done", "item": head.item, "text": text}


def _item_json(item: Item) -> dict[str, Any]:
    return {"kind": item.kind, "name": item.name, "text": item.text}


def whole_of(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a client makes of a stream's events: the whole answer without its id."""
    items: list[dict[str, Any]] = []
    chars, whole = 0, dict[str, Any]()
    for event in events:
        match event.get("type"):
            case "added":
                assert event["item"] == len(items)
                items.append({"kind": event["kind"], "name": event["name"], "text": ""})
            case "delta":
                item = items[event["item"]]
                if event["offset"] is not None:
                    assert event["offset"] == chars
                item["text"] += event["delta"]
                chars += len(event["delta"]) if item["kind"] == "text" else 0
            case "done":
                assert items[event["item"]]["text"] == event["text"]
            case "finish":
                whole["finish"] = event["reason"]
            case _:
                whole["used"] = event["used"]
    numbers = [event["number"] for event in events]
    assert numbers == sorted(set(numbers))
    return {"items": items, **whole}


_DIALECT = ScriptedDialect()
_ROUTER = APIRouter()


@_ROUTER.post(_DIALECT.endpoint, dependencies=[READS])
async def create(request: Request, exchange: ExchangeDep) -> Response:
    """Its routes are those of every dialect."""
    return await answer_request(exchange, _DIALECT, await read_json(request))


@_ROUTER.get(_DIALECT.endpoint + "/{object_id}", dependencies=[READS])
async def show(object_id: str, exchange: ExchangeDep) -> Response:
    return await answer_object(exchange, _DIALECT, object_id)


@_ROUTER.get(_DIALECT.endpoint + "/{object_id}/events", dependencies=[READS])
async def stream(object_id: str, exchange: ExchangeDep) -> Response:
    return await answer_object_events(exchange, _DIALECT, object_id)


def create_scripted_app(settings: ApiSettings) -> FastAPI:
    """Baton's app with one more dialect."""
    app = create_app(settings, dialects=Dialects([OpenAIChat(), _DIALECT]))
    app.include_router(_ROUTER)
    return app
