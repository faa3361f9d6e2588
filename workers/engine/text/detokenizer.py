"""Detokenizer: converts a sequence's tokens to text, token by token."""

from __future__ import annotations

import codecs
import random
from collections.abc import Sequence

from shared.errors import BatonError
from workers.engine.token_bytes import TokenBytes

#: More tokens before the text than these do not change it: they complete any character.
_NUM_BEFORE = 8
#: Random sequences with which a tokenizer is checked, and their length.
_NUM_CHECKED, _CHECKED_LENGTH = 64, 6


class UnsupportedTokenizer(BatonError):
    """Raised when a tokenizer's tokens cannot be converted to text one by one."""


class Detokenizer:
    """The text of one sequence. A character belongs to the token that completes it.

    The text is what the tokenizer decodes. Only where byte tokens form no valid character, it keeps those that do: the
    tokenizer replaces the whole run of byte tokens.
    """

    def __init__(
        self, token_bytes: TokenBytes, *, shows_special: bool = False, is_first: bool = True
    ) -> None:
        """`shows_special`: include special tokens in the text. `is_first`: drop the space before the first word."""
        self._token_bytes = token_bytes
        self._shows_special = shows_special
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_first = is_first
        #: Whether a space follows before the next token.
        self._follows_word = False

    def follow(self, token_ids: Sequence[int]) -> None:
        """Continue the text of these tokens, which is not part of what `push` returns.

        A special token begins a text: what lies before it does not matter.
        """
        for token_id in token_ids[-_NUM_BEFORE:]:
            if not self._shows_special and self._token_bytes.written(token_id) is not None:
                self.flush()
                self._is_first, self._follows_word = True, False
            else:
                self.push(token_id)

    def push(self, token_id: int) -> str:
        """Return the characters that the next token completes. Invalid UTF-8 becomes U+FFFD."""
        found = self._bytes(token_id)
        if found is None:
            return ""
        self._is_first = False
        if self._token_bytes.word_end is not None:
            self._follows_word = self._token_bytes.ends_word(token_id)
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
            found = self._token_bytes.written(token_id)
        return b" " + found if self._follows_word and found is not None else found


def check_tokenizer(token_bytes: TokenBytes) -> None:
    """Check that the tokens' texts, one after the other, are what the tokenizer decodes.

    Decodes random sequences. Raises UnsupportedTokenizer.
    """
    tokenizer, draw = token_bytes.tokenizer, random.Random(0)
    ids = sorted(tokenizer.get_vocab().values())
    for _ in range(_NUM_CHECKED if ids else 0):
        token_ids = draw.choices(ids, k=_CHECKED_LENGTH)
        whole = tokenizer.decode(token_ids)
        detokenizer = Detokenizer(token_bytes)
        text = "".join(map(detokenizer.push, token_ids)) + detokenizer.flush()
        if text != whole and not (token_bytes.has_byte_tokens and "\ufffd" in whole):
            tokens = [tokenizer.id_to_token(token_id) for token_id in token_ids]
            raise UnsupportedTokenizer(
                f"the tokenizer's decoder is not supported: {tokens} would read {text!r} instead of {whole!r}"
            )
