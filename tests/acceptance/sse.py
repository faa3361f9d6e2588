"""A reader of event streams that keeps what official clients hide: ids, events and the raw bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
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
    #: Of each choice that has some, an entry a token.
    logprobs: dict[int, list[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, found: list[Block]) -> Answer:
        answer = cls({}, {})
        for block in found:
            answer.add_block(block)
        return answer

    def add_block(self, block: Block) -> None:
        """What one more event tells."""
        if block.data == "[DONE]":
            self.is_done = True
        else:
            self.add(block.json)

    def add(self, chunk: dict[str, Any]) -> None:
        """What one more chunk tells."""
        assert "error" not in chunk, chunk
        for choice in chunk["choices"]:
            index = choice["index"]
            self.texts[index] = self.texts.get(index, "") + (choice["delta"].get("content") or "")
            if choice["logprobs"] is not None:
                self.logprobs.setdefault(index, []).extend(choice["logprobs"]["content"])
            if choice["finish_reason"] is not None:
                assert index not in self.finish
                self.finish[index] = choice["finish_reason"]
        self.usage = chunk.get("usage") or self.usage

    @classmethod
    def of_completion(cls, completion: dict[str, Any]) -> Answer:
        """The same of an answer that came whole."""
        choices = {choice["index"]: choice for choice in completion["choices"]}
        return cls(
            {index: choice["message"]["content"] for index, choice in choices.items()},
            {index: choice["finish_reason"] for index, choice in choices.items()},
            completion["usage"],
            True,
            {
                index: choice["logprobs"]["content"]
                for index, choice in choices.items()
                if choice["logprobs"] is not None
            },
        )
