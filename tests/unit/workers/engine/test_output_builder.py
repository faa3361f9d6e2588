"""workers.engine.output_builder."""

from __future__ import annotations

import functools

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from shared.events import ChoiceOutput
from shared.job import ResolvedRequest
from shared.sampling import SamplingParams
from workers.engine.detokenizer import TokenBytes
from workers.engine.output_builder import OutputBuilder

_NOTHING = ChoiceOutput(0, 0, (), ())
_HALF_CHARACTERS = ["ðŁ", "İī", "æ", "Ĺ", "¥"]
_PIECES = ["a", "b", "ab", "ba", "aab", "c", "Ġ", "cab", *_HALF_CHARACTERS]
_EOS = len(_PIECES)
_PARTY, _POPPER = _PIECES.index("ðŁ"), _PIECES.index("İī")


@functools.cache
def token_bytes() -> TokenBytes:
    """A vocabulary of pieces, half characters among them; _EOS and the token after it are special."""
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(_PIECES)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True), AddedToken("<|other|>", special=True)])
    return TokenBytes(tokenizer)


def ids(*pieces: str) -> list[int]:
    return [_PIECES.index(piece) for piece in pieces]


def builder(*, max_tokens: int = 100, stop: tuple[str, ...] = ()) -> OutputBuilder:
    sampling = SamplingParams(max_tokens=max_tokens, seed=0, stop=stop)
    return OutputBuilder(token_bytes(), ResolvedRequest((1,), sampling, (_EOS,), "revision"), 0)


def run(output: OutputBuilder, token_ids: list[int]) -> list[ChoiceOutput]:
    """What is released, until the choice or the tokens end."""
    released = []
    for token_id in token_ids:
        new = output.push(token_id)
        if new is not None:
            released.append(new)
            if new.finish:
                break
    return released


def joined(outputs: list[ChoiceOutput]) -> ChoiceOutput:
    return functools.reduce(ChoiceOutput.joined, outputs, _NOTHING)


def test_a_token_of_plain_text_is_released_at_once() -> None:
    output = builder()
    assert output.push(*ids("ab")) == ChoiceOutput(0, 0, tuple(ids("ab")), ("ab",))
    assert output.push(*ids("Ġ")) == ChoiceOutput(0, 1, tuple(ids("Ġ")), (" ",))
    assert (output.position, output.num_tokens) == (2, 2)


def test_half_a_character_is_held_back_until_it_is_whole() -> None:
    output = builder()
    assert output.push(_PARTY) is None
    assert (output.position, output.num_tokens) == (0, 1)
    assert output.push(_POPPER) == ChoiceOutput(0, 0, (_PARTY, _POPPER), ("", "🎉"))


def test_half_a_character_at_the_end_is_shown_as_fffd() -> None:
    output = builder(max_tokens=2)
    assert joined(run(output, [*ids("a"), _PARTY])) == ChoiceOutput(
        0, 0, (*ids("a"), _PARTY), ("a", "\ufffd"), "length"
    )
    assert joined(run(builder(), [_PARTY, _EOS])) == ChoiceOutput(
        0, 0, (_PARTY, _EOS), ("\ufffd", ""), "stop"
    )


def test_a_stop_token_counts_and_has_no_text() -> None:
    assert run(builder(max_tokens=1), [_EOS]) == [ChoiceOutput(0, 0, (_EOS,), ("",), "stop")]


def test_another_special_token_counts_has_no_text_and_ends_nothing() -> None:
    assert run(builder(), [_EOS + 1]) == [ChoiceOutput(0, 0, (_EOS + 1,), ("",))]


def test_the_token_limit_ends_a_choice() -> None:
    assert joined(run(builder(max_tokens=2), ids("a", "b", "c"))) == ChoiceOutput(
        0, 0, tuple(ids("a", "b")), ("a", "b"), "length"
    )


def test_what_may_begin_a_stop_string_is_held_back() -> None:
    output = builder(stop=("bac",))
    assert run(output, ids("a", "b", "a")) == [ChoiceOutput(0, 0, tuple(ids("a")), ("a",))]
    assert output.push(*ids("a")) == ChoiceOutput(0, 1, tuple(ids("b", "a", "a")), ("b", "a", "a"))


def test_a_stop_string_cuts_the_text_before_it_and_keeps_its_tokens() -> None:
    assert joined(run(builder(stop=("bc",)), ids("a", "ab", "cab"))) == ChoiceOutput(
        0, 0, tuple(ids("a", "ab", "cab")), ("a", "a", ""), "stop"
    )


def test_what_was_held_back_is_shown_when_the_choice_ends_otherwise() -> None:
    expected = ChoiceOutput(0, 0, (*ids("a", "b"), _EOS), ("a", "b", ""), "stop")
    assert joined(run(builder(stop=("bac",)), [*ids("a", "b"), _EOS])) == expected


def test_a_stop_string_outdoes_the_token_limit() -> None:
    assert joined(run(builder(stop=("b",), max_tokens=2), ids("a", "b"))) == ChoiceOutput(
        0, 0, tuple(ids("a", "b")), ("a", ""), "stop"
    )


def test_a_stop_string_may_consist_of_what_was_no_text() -> None:
    assert joined(run(builder(stop=("\ufffd",), max_tokens=2), [*ids("a"), _PARTY])) == ChoiceOutput(
        0, 0, (*ids("a"), _PARTY), ("a", ""), "stop"
    )


def test_replay_finds_that_the_choice_was_over() -> None:
    over = ChoiceOutput(0, 2, (), (), "length")
    assert builder(max_tokens=2).replay(ChoiceOutput(0, 0, tuple(ids("a", "b")), ("a", "b"))) == over
    assert builder().replay(ChoiceOutput(0, 0, (_EOS,), ("",))) == ChoiceOutput(0, 1, (), (), "stop")
    assert builder().replay(ChoiceOutput(0, 0, tuple(ids("a")), ("a",))) is None


def test_other_tokens_after_a_resume_change_nothing_that_was_shown() -> None:
    """A machine that is not exact may go on otherwise: `b` was shown because an `a` followed that is lost."""
    output = builder(stop=("bc",))
    assert output.replay(ChoiceOutput(0, 0, tuple(ids("a", "b")), ("a", "b"))) is None
    assert output.push(*ids("cab")) == ChoiceOutput(0, 2, tuple(ids("cab")), ("",), "stop")


_TOKENS = st.lists(st.integers(0, _EOS + 2), max_size=25)
_STOPS = st.lists(st.sampled_from(["ab", "bab", "abc", "c ", "🎉a", "\ufffd", "aabaab"]), max_size=3).map(
    tuple
)


@given(_TOKENS, _STOPS, st.integers(1, 20))
def test_a_resume_at_any_point_of_release_gives_the_same_tokens_texts_and_end(
    token_ids: list[int], stop: tuple[str, ...], max_tokens: int
) -> None:
    outputs = run(builder(stop=stop, max_tokens=max_tokens), token_ids)
    whole = joined(outputs)
    for end in range((outputs[-1].start if whole.finish else whole.end) + 1):
        so_far = ChoiceOutput(0, 0, whole.token_ids[:end], whole.texts[:end])
        output = builder(stop=stop, max_tokens=max_tokens)
        assert output.replay(so_far) is None
        rest = run(output, token_ids[end:])
        assert joined([so_far, *rest]) == whole
        assert output.position == whole.end


@given(_TOKENS, _STOPS, st.integers(1, 20))
def test_visible_text_is_the_decoded_text_up_to_the_stop_string(
    token_ids: list[int], stop: tuple[str, ...], max_tokens: int
) -> None:
    outputs = run(builder(stop=stop, max_tokens=max_tokens), token_ids)
    whole = joined(outputs)
    plain = joined(run(builder(max_tokens=max_tokens), token_ids))
    assert whole.token_ids == tuple(token_ids[: whole.end])
    assert plain.text.startswith(whole.text)
    assert not any(word in whole.text for word in stop)
    if whole.finish and whole.text != plain.text:
        assert any(plain.text[len(whole.text) :].startswith(word) for word in stop)


@given(_TOKENS, _STOPS)
def test_releases_follow_each_other_and_only_the_last_has_a_finish(
    token_ids: list[int], stop: tuple[str, ...]
) -> None:
    outputs = run(builder(stop=stop, max_tokens=15), token_ids)
    assert [output.start for output in outputs[1:]] == [output.end for output in outputs[:-1]]
    assert all(output.finish is None for output in outputs[:-1])
    assert all(len(output.token_ids) == len(output.texts) > 0 for output in outputs)
