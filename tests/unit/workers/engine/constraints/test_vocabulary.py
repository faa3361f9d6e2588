from __future__ import annotations

import numpy as np

from tests.models import byte_tokenizer
from workers.engine.constraints.vocabulary import Vocabulary


def test_special_and_unknown_tokens_have_no_text() -> None:
    tokenizer = byte_tokenizer()
    vocabulary = Vocabulary.of(tokenizer.backend_tokenizer, len(tokenizer) + 5)
    assert len(vocabulary) == len(tokenizer) + 5
    special = set(range(256, len(tokenizer)))
    silent = {token_id for token_id, token in enumerate(vocabulary.tokens) if not token}
    assert silent == special | set(range(len(tokenizer), len(vocabulary)))
    assert vocabulary.tokens[tokenizer.convert_tokens_to_ids("a")] == b"a"
    # One more bit, for the end.
    bits = np.unpackbits(vocabulary.has_text, bitorder="little")
    assert [bool(bit) for bit in bits[: len(vocabulary) + 1]] == [*map(bool, vocabulary.tokens), False]
    assert vocabulary.tokenizer.vocab_size == len(vocabulary) + 1
