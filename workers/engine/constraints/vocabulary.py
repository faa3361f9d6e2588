"""Vocabulary: what the tokens of a model say, for those who allow some of them and bar the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from llguidance import LLTokenizer
from numpy.typing import NDArray
from tokenizers import Tokenizer

from workers.engine.constraints.grammar import make_tokenizer
from workers.engine.text.detokenizer import TokenBytes


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The bytes of every token that the model has a logit for; special and unknown ones say nothing."""

    tokens: tuple[bytes, ...]
    tokenizer: LLTokenizer
    #: A bit for each token and the end, the first in the lowest bit of the first byte: whether it has text.
    has_text: NDArray[np.uint8]

    @classmethod
    def of(cls, tokenizer: Tokenizer, size: int) -> Vocabulary:
        """Takes a tenth of a second, most of it without the interpreter's lock."""
        known = TokenBytes(tokenizer)
        tokens = tuple(known.get(token_id, is_first=False) or b"" for token_id in range(size))
        has_text = np.packbits([*map(bool, tokens), False], bitorder="little")
        return cls(tokens, make_tokenizer(tokens), has_text)

    def __len__(self) -> int:
        return len(self.tokens)
