"""A splitter for tests: reasoning in `<think>`, calls as Hermes models write them.

`<tool_call>\\n{"name": "f", "arguments": {…}}\\n</tool_call>`, with exactly these spaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from shared.domain.output import Args, Close, Op, Open, Reasoning, Text
from workers.engine.text.splitter import Splitters

_THINK, _END_THINK, _CALL = "<think>", "</think>", "<tool_call>"
_BEFORE_NAME, _BEHIND_NAME, _BEHIND_ARGS = '\n{"name": "', '", "arguments": ', "}\n</tool_call>"
_State = Literal["text", "reasoning", "header", "args", "closing"]


class HermesSplitter:
    def __init__(self) -> None:
        self._state: _State = "text"
        self._held = ""
        self._json = _ObjectScanner()

    @property
    def is_holding(self) -> bool:
        return bool(self._held) or self._state == "header"

    def push(self, text: str) -> list[Op]:
        self._held += text
        ops: list[Op] = []
        while (before := (self._state, self._held))[1]:
            ops += self._read()
            if before == (self._state, self._held):
                break
        return ops

    def end(self) -> list[Op]:
        held, state = self._held, self._state
        self._held = ""
        if state == "header":
            return [Text(_CALL + held)]
        return list(self._plain(held)) if state in ("text", "reasoning") else []

    def _read(self) -> Iterator[Op]:
        if self._state == "header":
            return self._read_header()
        if self._state == "args":
            return self._read_args()
        if self._state == "closing":
            return self._read_closing()
        return self._read_text()

    def _read_text(self) -> Iterator[Op]:
        tags = (_THINK, _CALL) if self._state == "text" else (_END_THINK,)
        found = min(((at, tag) for tag in tags if (at := self._held.find(tag)) >= 0), default=None)
        if found is None:
            num_held = max(_num_begun(self._held, tag) for tag in tags)
            plain, self._held = (
                self._held[: len(self._held) - num_held],
                self._held[len(self._held) - num_held :],
            )
            yield from self._plain(plain)
        else:
            at, tag = found
            plain, self._held = self._held[:at], self._held[at + len(tag) :]
            yield from self._plain(plain)
            self._state = "header" if tag == _CALL else "reasoning" if tag == _THINK else "text"

    def _read_header(self) -> Iterator[Op]:
        begin = self._held[: len(_BEFORE_NAME)]
        name, quote, behind = self._held[len(_BEFORE_NAME) :].partition('"')
        behind = quote + behind
        if not _BEFORE_NAME.startswith(begin) or not (name + "x").isidentifier():
            yield from self._no_call()
        elif behind.startswith(_BEHIND_NAME) and name:
            self._state, self._held = "args", behind.removeprefix(_BEHIND_NAME)
            yield Open(name)
        elif not _BEHIND_NAME.startswith(behind) or (quote and not name):
            yield from self._no_call()

    def _no_call(self) -> Iterator[Op]:
        """It begins as a call and is none: the tag is content, and what follows is read again."""
        self._state = "text"
        yield Text(_CALL)

    def _read_args(self) -> Iterator[Op]:
        end = self._json.read(self._held)
        args, self._held = self._held[:end], self._held[end:]
        if self._json.is_over:
            self._state, self._json = "closing", _ObjectScanner()
        if args:
            yield Args(args)

    def _read_closing(self) -> Iterator[Op]:
        if self._held.startswith(_BEHIND_ARGS):
            self._held = self._held.removeprefix(_BEHIND_ARGS)
        elif _BEHIND_ARGS.startswith(self._held):
            return
        self._state = "text"
        yield Close()

    def _plain(self, text: str) -> Iterator[Op]:
        if text:
            yield Text(text) if self._state == "text" else Reasoning(text)


class _ObjectScanner:
    """Finds the end of a JSON object."""

    def __init__(self) -> None:
        self.is_over = False
        self._depth = 0
        self._is_string = False
        self._is_escaped = False

    def read(self, text: str) -> int:
        """How many characters belong to the object."""
        for index, character in enumerate(text):
            self._take(character)
            if self.is_over:
                return index + 1
        return len(text)

    def _take(self, character: str) -> None:
        if self._is_escaped:
            self._is_escaped = False
        elif self._is_string:
            self._is_escaped = character == "\\"
            self._is_string = character != '"'
        elif character == '"':
            self._is_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            self.is_over = self._depth <= 0


def _num_begun(text: str, tag: str) -> int:
    """Characters of the tag that the text ends with."""
    return max(num for num in range(len(tag)) if text.endswith(tag[:num]))


SPLITTERS: Splitters = {"hermes@1": HermesSplitter}
