"""workers.engine.text.detokenizer."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from workers.engine.text.detokenizer import Detokenizer
from workers.engine.token_bytes import TokenBytes

_SPECIAL = "<|end|>"
_TEXTS = [
    "",
    " ",
    "hello world",
    "  two  spaces",
    "日本語のテキスト",
    "a🎉b👩‍👩‍👧!",
    "é\u0301\n\tx",
    "\ufffd ok",
]


@functools.cache
def byte_level() -> Tokenizer:
    """256 bytes, some merges, a special token, and an added token that is not special."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, "he", "ll", "hell", "Ġw", "æĹ", "ðŁ", "ðŁİ"]
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("Ġ", "w"), ("æ", "Ĺ"), ("ð", "Ł"), ("ðŁ", "İ")]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(_SPECIAL, special=True)])
    tokenizer.add_tokens([AddedToken("<think> ü")])
    return tokenizer


@functools.cache
def sentencepiece_like() -> Tokenizer:
    """Like Llama 2 and Mistral: `▁` for a space, byte tokens for the rest, a leading space dropped."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", "h", "e", "l", "o", "w", "r", "d", "▁hello", "▁w", "▁▁", "日"]
    tokenizer = Tokenizer(
        models.BPE({p: i for i, p in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken("</s>", special=True)])
    return tokenizer


@functools.cache
def metaspace() -> Tokenizer:
    pieces = ["<unk>", "▁", "▁hello", "▁world", "s", "!"]
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    assert found is not None
    return found


def detokenize(tokenizer: Tokenizer, token_ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(TokenBytes(tokenizer))
    texts = [detokenizer.push(each) for each in token_ids]
    return [*texts, detokenizer.flush()]


@pytest.mark.parametrize("make", [byte_level, sentencepiece_like])
@pytest.mark.parametrize("text", _TEXTS)
def test_an_encoded_text_decodes_to_itself(make: Callable[[], Tokenizer], text: str) -> None:
    tokenizer = make()
    token_ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert "".join(detokenize(tokenizer, token_ids)) == tokenizer.decode(token_ids)


@given(st.text(max_size=20))
def test_any_text_round_trips(text: str) -> None:
    for tokenizer in (byte_level(), sentencepiece_like()):
        token_ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert "".join(detokenize(tokenizer, token_ids)) == tokenizer.decode(token_ids)


@given(st.lists(st.integers(0, 270), max_size=20))
def test_any_byte_level_tokens_decode_as_the_tokenizer_does(token_ids: list[int]) -> None:
    tokenizer = byte_level()
    assert "".join(detokenize(tokenizer, token_ids)) == tokenizer.decode(token_ids)


@given(st.lists(st.integers(0, 5), max_size=6))
def test_any_metaspace_tokens_decode_as_the_tokenizer_does(token_ids: list[int]) -> None:
    tokenizer = metaspace()
    assert "".join(detokenize(tokenizer, token_ids)) == tokenizer.decode(token_ids)


def test_a_tokenizer_without_decoder_separates_by_spaces() -> None:
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "one": 1, "two": 2}, unk_token="<unk>"))
    assert detokenize(tokenizer, [1, 2, 1]) == ["one", " two", " one", ""]


def test_a_character_belongs_to_the_token_that_completes_it() -> None:
    tokenizer = sentencepiece_like()
    token_ids = [token_id(tokenizer, f"<0x{byte:02X}>") for byte in "🎉".encode()]
    assert detokenize(tokenizer, token_ids) == ["", "", "", "🎉", ""]


def test_special_and_unknown_tokens_have_no_text_even_within_a_character() -> None:
    tokenizer = byte_level()
    first, *rest = tokenizer.encode("é").ids
    special = token_id(tokenizer, _SPECIAL)
    assert detokenize(tokenizer, [special, first, special, 10**6, *rest]) == ["", "", "", "", "é", ""]


def test_special_tokens_can_be_shown() -> None:
    for tokenizer, special in ((byte_level(), _SPECIAL), (sentencepiece_like(), "</s>")):
        token_ids = [*tokenizer.encode("a é").ids, token_id(tokenizer, special), *tokenizer.encode("b").ids]
        detokenizer = Detokenizer(TokenBytes(tokenizer), shows_special=True)
        text = "".join(detokenizer.push(each) for each in token_ids)
        assert text == tokenizer.decode(token_ids, skip_special_tokens=False)
        assert detokenizer.raw(token_id(tokenizer, special)) == special.encode()
        assert detokenizer.push(10**6) == ""


def test_an_added_token_that_is_not_special_is_shown() -> None:
    tokenizer = byte_level()
    assert detokenize(tokenizer, [token_id(tokenizer, "<think> ü")]) == ["<think> ü", ""]


def test_a_text_that_ends_within_a_character_is_not_whole_and_ends_in_fffd() -> None:
    tokenizer = byte_level()
    detokenizer = Detokenizer(TokenBytes(tokenizer))
    detokenizer.push(token_id(tokenizer, "ðŁ"))
    assert not detokenizer.is_whole
    assert detokenizer.flush() == "\ufffd"
    assert detokenizer.is_whole


def test_a_single_token_has_its_name_or_its_text() -> None:
    subject = TokenBytes(byte_level())

    def text(token: str) -> str:
        token_id = byte_level().token_to_id(token)
        assert token_id is not None
        return subject.text(token_id)

    assert (text("hell"), text("Ġw"), text("ðŁ"), text("<think> ü")) == ("hell", " w", "\ufffd", "<think> ü")
    assert (text(_SPECIAL), subject.text(10**6)) == (_SPECIAL, "")
