"""Reader: turns what comes over the wire into a history, whatever is cut in between."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from tests.acceptance.faults.verdict.history import Heard, History, What

_TERMINAL = ("completed", "incomplete", "failed", "cancelled", "expired")


class Blocks:
    """Server-sent events out of bytes of one connection: (id, event, data)."""

    def __init__(self) -> None:
        self._rest = b""
        self._fields: dict[str, str] = {}

    def feed(self, piece: bytes) -> Iterator[tuple[str, str, str]]:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if not line:
                if "data" in self._fields:
                    yield self._fields.get("id", ""), self._fields.get("event", ""), self._fields["data"]
                self._fields = {}
            elif not line.startswith(b":"):
                name, _, value = line.decode().partition(":")
                self._fields[name] = value.removeprefix(" ")


class Reader:
    """One client's place in one job, as the ids of what it read tell it."""

    def __init__(self, history: History) -> None:
        self.history = history
        #: Of the last event that was read whole: where the client goes on.
        self.last_id: str | None = None
        self.is_over = False
        self._positions = (0,) * history.ask.n
        self._finishes: list[str] = []

    @property
    def num_tokens(self) -> int:
        return sum(self._positions)

    def block(self, event_id: str, event: str, data: str) -> None:
        """One event of a chat's or a job's stream."""
        if data == "[DONE]":
            self._move_to(event_id, None, "")
            return self._end("incomplete" if "length" in self._finishes else "completed")
        self.item(event_id, event, json.loads(data))

    def item(self, event_id: str, event: str, data: dict[str, Any]) -> None:
        """The same, parsed."""
        name = event.removeprefix("job.")
        if data.get("error") is not None and name not in _TERMINAL:
            code = str(data["error"]["code"])
            if code in ("stream_expired", "stream_corrupt"):
                self._note("lost", detail=code)
                self.is_over = True
            elif code not in ("slow_reader", "shutting_down", "store_unavailable"):
                self._end(code)
            return
        if "choices" in data:
            self._chunk(event_id, data)
        elif name in _TERMINAL:
            self._move_to(event_id, None, "")
            self._note("usage", completion_tokens=data["usage"]["completion_tokens"])
            self._end(name)
        elif event_id:
            self.last_id = event_id

    def answer(self, completion: dict[str, Any]) -> None:
        """A whole answer."""
        num_tokens = completion["usage"]["completion_tokens"]
        for choice in completion["choices"]:
            assert self.history.ask.n == 1  # of several choices it is not told who has how many tokens
            self._note("output", end=num_tokens, text=choice["message"]["content"])
            self._finish(choice["index"], choice["finish_reason"])
        self._note("usage", completion_tokens=num_tokens)
        self._end("incomplete" if "length" in self._finishes else "completed")

    def _chunk(self, event_id: str, chunk: dict[str, Any]) -> None:
        if chunk.get("usage"):
            self._move_to(event_id, None, "")
            self._note("usage", completion_tokens=chunk["usage"]["completion_tokens"])
        for choice in chunk["choices"]:
            self._move_to(event_id, choice["index"], choice["delta"].get("content") or "")
            if choice["finish_reason"] is not None:
                self._finish(choice["index"], choice["finish_reason"])

    def _move_to(self, event_id: str, choice: int | None, text: str) -> None:
        """Note what lies between the place that the client knows and the one after this event."""
        positions = positions_of(event_id)
        for index, (start, end) in enumerate(zip(self._positions, positions, strict=True)):
            if index == choice or start != end:
                self._note("output", choice=index, start=start, end=end, text=text if index == choice else "")
        self._positions, self.last_id = positions, event_id

    def _finish(self, choice: int, reason: str) -> None:
        self._finishes.append(reason)
        self._note("finish", choice=choice, detail=reason)

    def _end(self, status: str) -> None:
        self._note("end", detail=status)
        self.is_over = True

    def _note(
        self,
        what: What,
        *,
        choice: int = 0,
        start: int = 0,
        end: int = 0,
        text: str = "",
        detail: str = "",
        completion_tokens: int = 0,
    ) -> None:
        at = time.monotonic()
        self.history.heard.append(Heard(what, choice, start, end, text, detail, completion_tokens, at))

    def lost(self, why: str) -> None:
        """The job is not there any more."""
        self._note("lost", detail=why)
        self.is_over = True


def positions_of(event_id: str) -> tuple[int, ...]:
    """Tokens per choice, as an event id tells them (api/streaming/cursor.py)."""
    return tuple(int(part[:-1]) for part in event_id.split(".")[4:])
