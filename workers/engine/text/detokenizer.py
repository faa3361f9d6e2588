"""Detokenizer: converts a sequence's tokens to text, token by token."""

from __future__ import annotations

import codecs

from workers.engine.token_bytes import TokenBytes


class Detokenizer:
    """The text of one sequence. A character belongs to the token that completes it."""

    def __init__(self, token_bytes: TokenBytes, *, shows_special: bool = False) -> None:
        """`shows_special`: include special tokens in the text."""
        self._token_bytes = token_bytes
        self._shows_special = shows_special
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_first = True

    def push(self, token_id: int) -> str:
        """Return the characters that the next token completes. Invalid UTF-8 becomes U+FFFD."""
        found = self._bytes(token_id)
        if found is None:
            return ""
        self._is_first = False
        return self._decoder.decode(found)

    def raw(self, token_id: int) -> bytes:
        """Return the bytes that a token would add next. Empty for a token that does not appear in the text."""
        return self._bytes(token_id) or b""

    def flush(self) -> str:
        """Return U+FFFD if the text ends within a character, else an empty string."""
        return self._decoder.decode(b"", final=True)

    @property
    def is_whole(self) -> bool:
        """Whether the text ends with a complete character."""
        return not self._decoder.getstate()[0]

    def _bytes(self, token_id: int) -> bytes | None:
        found = self._token_bytes.get(token_id, is_first=self._is_first)
        if found is None and self._shows_special:
            return self._token_bytes.written(token_id)
        return found
