"""Generates chats with an exact number of tokens. No two of them share their first words."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer

#: A space and a short word in the byte-level alphabet.
_WORD = re.compile("Ġ[a-z]{2,9}")
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Chat:
    """One prompt as messages, and as tokens rendered by the model's chat template."""

    messages: tuple[dict[str, str], ...]
    token_ids: tuple[int, ...]


class Prompts:
    """Chats for a model directory. Equal numbers give equal chats. Raises ValueError if none can be generated."""

    def __init__(self, directory: Path, num_tokens: int) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(directory)
        self._num_tokens = num_tokens
        words = sorted(token[1:] for token in self._tokenizer.get_vocab() if _WORD.fullmatch(token))
        encoded = self._tokenizer([f" {word}" for word in words], add_special_tokens=False) if words else {}
        self._words = [
            word for word, ids in zip(words, encoded.get("input_ids", ()), strict=True) if len(ids) == 1
        ]
        if not self._words:
            raise ValueError(f"the tokenizer of {directory} has no word that is a single token")

    def chats(self, first: int, count: int) -> list[Chat]:
        return [self._chat(number) for number in range(first, first + count)]

    def _chat(self, number: int) -> Chat:
        """A word is one token unless it comes first, so the right number of words is searched for."""
        words = random.Random(number).choices(self._words, k=self._num_tokens)
        num_words = self._num_tokens
        for _ in range(_TRIES):
            chat = self._render(words[:num_words])
            if len(chat.token_ids) == self._num_tokens:
                return chat
            num_words = max(2, num_words + self._num_tokens - len(chat.token_ids))
        raise ValueError(f"cannot make a chat of {self._num_tokens} tokens; the template alone may need more")

    def _render(self, words: Sequence[str]) -> Chat:
        """The first word becomes the system message, so that templates do not add their own."""
        messages = (
            {"role": "system", "content": words[0]},
            {"role": "user", "content": " ".join(words[1:])},
        )
        encoded = self._tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, return_dict=True
        )
        return Chat(messages, tuple(encoded["input_ids"]))
