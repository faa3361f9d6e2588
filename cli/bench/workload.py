"""Generates the chats to send: the same for every target and for every run with the same seed."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Each word is one token in common tokenizers, together with the space before it.
_WORDS = (
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school",
    "state", "family", "student", "group", "country", "problem", "hand", "part", "place", "case", "week",
    "company", "system", "program", "question", "work", "government", "number",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lengths:
    """A range of lengths in tokens, drawn uniformly from both ends and everything between."""

    least: int
    most: int

    @classmethod
    def parse(cls, text: str) -> Lengths:
        """Parses `128` or `64-256`. Raises ValueError."""
        least, dash, most = text.partition("-")
        lengths = cls(int(least), int(most if dash else least))
        if not 1 <= lengths.least <= lengths.most:
            raise ValueError(f"{text!r} is not a length; write 128 or 64-256")
        return lengths

    def draw(self, source: random.Random) -> int:
        return source.randint(self.least, self.most)

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least}-{self.most}"


@dataclass(frozen=True, slots=True)
class Workload:
    """Chats by number: equal numbers give equal chats. No two start alike, so prefix caches do not help."""

    prompt: Lengths
    output: Lengths
    seed: int = 0
    #: Fields to add to the request body; None removes a field.
    extra: Mapping[str, Any] = field(default_factory=dict)

    def body(self, model: str, number: int) -> bytes:
        """The JSON of chat `number`. The prompt's length is approximate: each word counts as one token."""
        source = random.Random(f"{self.seed}/{number}")
        length, max_tokens = self.prompt.draw(source), self.output.draw(source)
        text = " ".join([f"{source.randrange(10**6)}:", *source.choices(_WORDS, k=max(1, length - 8))])
        fields = {
            "model": model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.extra,
        }
        return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
