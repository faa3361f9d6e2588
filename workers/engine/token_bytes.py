"""TokenBytes: the bytes that each token of a tokenizer adds to a text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

_BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")


class TokenBytes:
    """The UTF-8 bytes of each token of a vocabulary. One instance for each model, filled lazily.

    Supports byte-level BPE, SentencePiece with or without byte tokens, WordPiece, and BPE whose tokens end words. Other
    decoders work if a token adds the same text after any other token: see Detokenizer.check.
    """

    #: Ends the name of a token after which a space follows, unless the text ends there. None: there are no such tokens.
    word_end: str | None = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        parts = list(_decoder_parts(tokenizer))
        names = {part["type"] for part in parts}
        self.word_end = next((part["suffix"] for part in parts if part["type"] == "BPEDecoder"), None)
        self._byte_level = _byte_level_characters() if "ByteLevel" in names else None
        self._has_byte_tokens = "ByteFallback" in names
        self._anchor = None if self._byte_level else _plain_token(tokenizer)
        self._known: dict[tuple[int, bool], bytes | None] = {}

    def get(self, token_id: int, *, is_first: bool) -> bytes | None:
        """Return the token's bytes, which may be part of a character. None for special and unknown tokens.

        As the first token of a text, it may lack the space before its word.
        """
        try:
            return self._known[token_id, is_first]
        except KeyError:
            found = self._known[token_id, is_first] = self._read(token_id, is_first=is_first)
            return found

    def ends_word(self, token_id: int) -> bool:
        """Whether a space follows the token, unless the text ends there."""
        token = self._tokenizer.id_to_token(token_id)
        return bool(token and self.word_end and token.endswith(self.word_end))

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @property
    def has_byte_tokens(self) -> bool:
        """Whether some tokens stand for single bytes of a character that is no token."""
        return self._has_byte_tokens

    def text(self, token_id: int) -> str:
        """Return the text of a single token. Special tokens return their name, and incomplete characters U+FFFD."""
        found = self.get(token_id, is_first=False)
        if found is None:
            return self._tokenizer.id_to_token(token_id) or ""
        return found.decode(errors="replace")

    def written(self, token_id: int) -> bytes | None:
        """Return the written form of a special token. None for other tokens."""
        token = self._tokenizer.id_to_token(token_id) if token_id in self._special else None
        return None if token is None else token.encode()

    def _read(self, token_id: int, *, is_first: bool) -> bytes | None:
        token = self._tokenizer.id_to_token(token_id)
        if token is None or token_id in self._special:
            return None
        if self._byte_level:
            return _from_byte_level(token, self._byte_level)
        if self.word_end is not None:
            return token.removesuffix(self.word_end).encode()
        byte = _BYTE_TOKEN.fullmatch(token) if self._has_byte_tokens else None
        if byte:
            return bytes.fromhex(byte[1])
        if is_first or self._anchor is None:
            return self._tokenizer.decode([token_id]).encode()
        before = self._tokenizer.decode([self._anchor])
        return self._tokenizer.decode([self._anchor, token_id]).removeprefix(before).encode()


def _decoder_parts(tokenizer: Tokenizer) -> Iterator[dict[str, Any]]:
    """Yield the settings of the decoder, or of each decoder of a sequence."""
    open_parts = [] if tokenizer.decoder is None else [json.loads(tokenizer.decoder.__getstate__())]
    while open_parts:
        part = open_parts.pop()
        yield part
        open_parts += part.get("decoders", [])


def _byte_level_characters() -> Mapping[str, int]:
    """Return the byte for each character of a byte-level vocabulary (GPT-2's bytes_to_unicode)."""
    alphabet = set(ByteLevel.alphabet())
    as_themselves = {chr(byte): byte for byte in range(256) if chr(byte) in alphabet and chr(byte) < "\u0100"}
    others = sorted(set(range(256)) - set(as_themselves.values()))
    return as_themselves | {chr(256 + i): byte for i, byte in enumerate(others)}


def _from_byte_level(token: str, characters: Mapping[str, int]) -> bytes:
    try:
        return bytes([characters[character] for character in token])
    except KeyError:  # an added token, which is plain text
        return token.encode()


def _plain_token(tokenizer: Tokenizer) -> int | None:
    """Return a token that decodes to letters whatever follows it.

    Decoding another token after it yields that token's text inside a sentence.
    """
    for token_id in range(tokenizer.get_vocab_size()):
        text = tokenizer.decode([token_id])
        if text.isascii() and text.isalpha() and tokenizer.decode([token_id] * 2).startswith(text):
            return token_id
    return None
