from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models

from shared.errors import RequestError
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


def test_tokens_that_end_words_cannot_be_constrained() -> None:
    tokenizer = Tokenizer(models.BPE({"hel": 0, "lo</w>": 1}, []))
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    with pytest.raises(RequestError, match="</w>") as refused:
        Vocabulary.of(tokenizer, 2)
    assert refused.value.info.status == 400
