"""The text of an answer behind its prompt, for many kinds of tokenizers."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models

from shared.domain.constraint import Constraint
from shared.domain.output import ChoiceOutput
from shared.domain.sampling import SamplingParams
from workers.engine.resolved_request import ResolvedRequest
from workers.engine.text.detokenizer import Detokenizer, UnsupportedTokenizer, check_tokenizer
from workers.engine.text.output_builder import OutputBuilder
from workers.engine.token_bytes import TokenBytes

_SPECIAL = "</s>"
_SPM_PIECES = ["▁", "▁Paris", "▁is", "is", ".", "▁▁", "日", "x", ",", "'s"]
_WORDS = ["hello", "world", "##ing", ".", ",", "'", "s", "n't", "日"]
_SUFFIXED = ["hel", "lo</w>", "wor", "ld</w>", "a</w>", ".</w>", "日"]


def _with(pieces: list[str], decoder: decoders.Decoder | None, *, byte_fallback: bool = False) -> Tokenizer:
    vocab = {piece: i for i, piece in enumerate(["<unk>", *pieces])}
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=byte_fallback))
    tokenizer.decoder = decoder
    tokenizer.add_special_tokens([AddedToken(_SPECIAL, special=True, normalized=False)])
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    return tokenizer


def _spm_decoder() -> decoders.Decoder:
    return decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )


_KINDS: dict[str, Callable[[], Tokenizer]] = {
    "sentencepiece": lambda: _with(_SPM_PIECES, _spm_decoder()),
    "sentencepiece without strip": lambda: _with(
        _SPM_PIECES, decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    ),
    "metaspace always": lambda: _with(_SPM_PIECES, decoders.Metaspace(prepend_scheme="always")),
    "metaspace first": lambda: _with(_SPM_PIECES, decoders.Metaspace(prepend_scheme="first")),
    "metaspace never": lambda: _with(_SPM_PIECES, decoders.Metaspace(prepend_scheme="never")),
    "wordpiece": lambda: _with(_WORDS, decoders.WordPiece(cleanup=False)),
    "wordpiece with cleanup": lambda: _with(_WORDS, decoders.WordPiece(cleanup=True)),
    "word ends": lambda: _with(_SUFFIXED, decoders.BPEDecoder(suffix="</w>")),
    "byte level": lambda: _with(["Ġ", "a", "Ġb", "æĹ", "¥", "ðŁ", "İ", "ī"], decoders.ByteLevel()),
    "fuse": lambda: _with(["a", " b", "c "], decoders.Fuse()),
    "none": lambda: _with(["a", "b"], None),
}


@functools.cache
def kind(name: str) -> tuple[Tokenizer, TokenBytes]:
    tokenizer = _KINDS[name]()
    return tokenizer, TokenBytes(tokenizer)


def answer(
    token_bytes: TokenBytes,
    prompt: list[int],
    token_ids: list[int],
    *,
    cut: int | None = None,
    constraint: Constraint | None = None,
) -> str:
    """The text of an answer. After `cut` tokens another worker goes on from what was released."""
    sampling = SamplingParams(max_tokens=len(token_ids), seed=0, constraint=constraint)
    request = ResolvedRequest((tuple(prompt),), sampling, (), "r", continues_text=True)
    builder = OutputBuilder(token_bytes, request, 0)
    released: list[ChoiceOutput] = []
    for token_id in token_ids[:cut]:
        released += filter(None, [builder.push(token_id)])
    so_far = [token_id for output in released for token_id in output.ids]
    if cut is not None and len(so_far) < len(token_ids):
        builder = OutputBuilder(token_bytes, request, 0)
        texts = tuple(text for output in released for text in output.texts)
        assert builder.replay(ChoiceOutput(0, 0, tuple(so_far), texts)) is None
    for token_id in token_ids[len(so_far) if cut is not None else len(token_ids) :]:
        released += filter(None, [builder.push(token_id)])
    return "".join(text for output in released for text in output.texts)


@pytest.mark.parametrize("name", _KINDS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_prompt_and_answer_read_as_the_tokenizer_decodes_the_whole(name: str, data: st.DataObject) -> None:
    tokenizer, token_bytes = kind(name)
    token_id = st.integers(0, tokenizer.get_vocab_size() - 1)
    whole = data.draw(st.lists(token_id, min_size=1, max_size=12))
    begin = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.none() | st.integers(0, len(whole) - begin))
    special = tokenizer.token_to_id(_SPECIAL)
    after_special = [i for i in range(begin) if whole[i] == special]
    tail = whole[after_special[-1] + 1 if after_special else 0 : begin]
    before = tokenizer.decode(tail)
    together = tokenizer.decode([*tail, *whole[begin:]])
    got = answer(token_bytes, whole[:begin], whole[begin:], cut=cut)
    if before.endswith("\ufffd"):
        # The prompt may end within a character, which belongs to the answer.
        before, got = before.rstrip("\ufffd"), got.lstrip("\ufffd")
        together = before + together.removeprefix(before).lstrip("\ufffd")
    assert together.startswith(before)
    assert got == together.removeprefix(before)


@pytest.mark.parametrize("name", _KINDS)
def test_every_kind_passes_the_check(name: str) -> None:
    check_tokenizer(kind(name)[1])


def test_a_decoder_that_changes_its_text_later_is_refused() -> None:
    tokenizer = _with(["a", "b", "<pad>"], decoders.CTC())
    with pytest.raises(UnsupportedTokenizer, match="decoder is not supported"):
        check_tokenizer(TokenBytes(tokenizer))


def ids_of(tokenizer: Tokenizer, *tokens: str) -> list[int]:
    found = [tokenizer.token_to_id(token) for token in tokens]
    assert None not in found
    return [token_id for token_id in found if token_id is not None]


def test_the_first_word_of_a_begun_text_keeps_its_space() -> None:
    tokenizer, token_bytes = kind("sentencepiece")
    said = ids_of(tokenizer, "▁Paris", ".")
    assert answer(token_bytes, ids_of(tokenizer, _SPECIAL, "▁is"), said) == " Paris."
    assert answer(token_bytes, ids_of(tokenizer, "▁is", _SPECIAL), said) == "Paris."


def test_a_constrained_text_has_every_space_that_the_grammar_read() -> None:
    tokenizer, token_bytes = kind("sentencepiece")
    choice = Constraint("choice", '[" Paris"]', "guided_choice")
    assert answer(token_bytes, [], ids_of(tokenizer, "▁Paris"), constraint=choice) == " Paris"


def test_a_character_that_the_prompt_begins_is_completed() -> None:
    tokenizer, token_bytes = kind("byte level")
    assert answer(token_bytes, ids_of(tokenizer, "a", "æĹ"), ids_of(tokenizer, "¥", "a")) == "日a"


def test_byte_tokens_of_a_character_that_is_no_token_stay_one_character() -> None:
    pieces = ["▁is", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = _with(pieces, _spm_decoder(), byte_fallback=True)
    token_bytes = TokenBytes(tokenizer)
    check_tokenizer(token_bytes)
    said = ids_of(tokenizer, *(f"<0x{byte:02X}>" for byte in " 🎉".encode()), "▁is")
    for cut in range(len(said)):
        assert answer(token_bytes, ids_of(tokenizer, "▁is"), said, cut=cut) == " 🎉 is"


def test_a_shown_special_token_stands_within_the_text() -> None:
    tokenizer, token_bytes = kind("sentencepiece")
    detokenizer = Detokenizer(token_bytes, shows_special=True)
    detokenizer.follow(ids_of(tokenizer, "▁is", _SPECIAL))
    assert detokenizer.push(ids_of(tokenizer, "▁Paris")[0]) == " Paris"
