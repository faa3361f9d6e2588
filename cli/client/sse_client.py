"""Decodes server-sent events from bytes that arrive in pieces of any size.

Follows https://html.spec.whatwg.org/multipage/server-sent-events.html: comment lines are skipped, a blank line ends
an event, an event without data is dropped, and an id takes effect at the blank line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event. `id` is the last id that the stream has sent, "" if none."""

    data: str
    event: str = "message"
    id: str = ""


class SseDecoder:
    """The state of one connection."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []
        self._event = ""
        self._id = ""

    def feed(self, chunk: bytes) -> Iterator[SseEvent]:
        """Yields the events that this piece completes."""
        lines = self._lines(chunk)
        for line in lines:
            event = self._line(line.decode(errors="replace"))
            if event is not None:
                yield event

    def _lines(self, chunk: bytes) -> list[bytes]:
        """The complete lines. str.splitlines would also split at U+2028 and similar characters."""
        buffer = self._rest + chunk
        # A carriage return at the very end may be the first half of "\r\n".
        held = b"\r" if buffer.endswith(b"\r") else b""
        *lines, rest = _LINE_END.split(buffer.removesuffix(held))
        self._rest = rest + held
        return lines

    def _line(self, line: str) -> SseEvent | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "data":
                self._data.append(value)
            case "event":
                self._event = value
            case "id" if "\0" not in value:
                self._id = value
        return None

    def _dispatch(self) -> SseEvent | None:
        data, name = self._data, self._event
        self._data, self._event = [], ""
        return SseEvent("\n".join(data), name or "message", self._id) if data else None
