"""Vocabulary: the text of a model's tokens, for grammars and other token rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from llguidance import LLTokenizer
from numpy.typing import NDArray
from tokenizers import Tokenizer

from shared.errors import invalid_request
from workers.engine.constraints.grammar import make_tokenizer
from workers.engine.token_bytes import TokenBytes


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The bytes of every token that the model has a logit for. Empty for special and unknown tokens."""

    tokens: tuple[bytes, ...]
    tokenizer: LLTokenizer
    #: A bitmask of the tokens that have text, with one more bit for the end. Token 0 is the lowest bit of the
    #: first byte.
    has_text: NDArray[np.uint8]

    @classmethod
    def of(cls, tokenizer: Tokenizer, size: int) -> Vocabulary:
        """Build the vocabulary. Takes a tenth of a second, mostly without the interpreter lock.

        Raises: RequestError if the text of a token depends on what follows it.
        """
        known = TokenBytes(tokenizer)
        if known.word_end is not None:
            message = f"This model's answers cannot be constrained: its tokens end words ({known.word_end})."
            raise invalid_request(message, code="unsupported_constraint")
        tokens = tuple(known.get(token_id, is_first=False) or b"" for token_id in range(size))
        has_text = np.packbits([*map(bool, tokens), False], bitorder="little")
        return cls(tokens, make_tokenizer(tokens), has_text)

    def __len__(self) -> int:
        return len(self.tokens)
