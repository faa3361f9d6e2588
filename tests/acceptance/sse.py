"""A reader of event streams that keeps what official clients hide: ids, events and the raw bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Block:
    """One event as it came over the wire."""

    id: str | None
    event: str | None
    data: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)


def blocks(response: httpx.Response) -> Iterator[Block]:
    """The events of a streamed response, comments left out."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if not line:
            assert "data" in fields, f"a block without data: {fields}"
            yield Block(fields.get("id"), fields.get("event"), fields["data"])
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")


@dataclass
class Answer:
    """What the chunks of a chat amount to, choice by choice."""

    texts: dict[int, str]
    finish: dict[int, str]
    usage: dict[str, Any] | None = None
    is_done: bool = False

    @classmethod
    def of(cls, found: list[Block]) -> Answer:
        answer = cls({}, {})
        for block in found:
            if block.data == "[DONE]":
                answer.is_done = True
                continue
            for choice in block.json["choices"]:
                index = choice["index"]
                answer.texts[index] = answer.texts.get(index, "") + (choice["delta"].get("content") or "")
                if choice["finish_reason"] is not None:
                    assert index not in answer.finish
                    answer.finish[index] = choice["finish_reason"]
            answer.usage = block.json.get("usage") or answer.usage
        return answer
