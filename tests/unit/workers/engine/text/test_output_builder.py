"""workers.engine.text.output_builder."""

from __future__ import annotations

import functools
import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from shared.domain.output import Candidate, ChoiceOutput, Finish, Text, TokenLogprobs
from shared.domain.prompt_logprobs import PromptLogprobs, PromptToken
from shared.domain.sampling import SamplingParams
from workers.engine.resolved_request import ResolvedRequest
from workers.engine.sampling.logprobs import Scores
from workers.engine.text.output_builder import OutputBuilder
from workers.engine.token_bytes import TokenBytes

STOP, LENGTH = Finish("stop"), Finish("length")
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


def one(piece: str) -> int:
    return _PIECES.index(piece)


def builder(
    *,
    max_tokens: int = 100,
    stop: tuple[str, ...] = (),
    min_tokens: int = 0,
    logprobs: int | None = None,
    stop_token_ids: tuple[int, ...] = (_EOS,),
    named_stop_token_ids: tuple[int, ...] = (),
    includes_stop: bool = False,
    shows_special: bool = False,
    echo: str | None = None,
    prompt_only: bool = False,
    prompt_logprobs: int | None = None,
    prompt: tuple[int, ...] = (1,),
) -> OutputBuilder:
    sampling = SamplingParams(
        max_tokens=max_tokens,
        seed=0,
        stop=stop,
        min_tokens=min_tokens,
        logprobs=logprobs,
        includes_stop=includes_stop,
        shows_special=shows_special,
        prompt_only=prompt_only,
        prompt_logprobs=prompt_logprobs,
    )
    request = ResolvedRequest(
        (prompt,),
        sampling,
        stop_token_ids,
        "revision",
        named_stop_token_ids=named_stop_token_ids,
        echo=() if echo is None else (echo,),
    )
    return OutputBuilder(token_bytes(), request, 0)


def run(output: OutputBuilder, token_ids: list[int], scores: Scores | None = None) -> list[ChoiceOutput]:
    """What is released, until the choice or the tokens end."""
    released = []
    for token_id in token_ids:
        new = output.push(token_id, scores)
        if new is not None:
            released.append(new)
            if new.finish:
                break
    return released


def joined(outputs: list[ChoiceOutput]) -> ChoiceOutput:
    return functools.reduce(ChoiceOutput.joined, outputs, _NOTHING)


def test_a_token_of_plain_text_is_released_at_once() -> None:
    output = builder()
    assert output.push(one("ab")) == ChoiceOutput(0, 0, tuple(ids("ab")), ("ab",))
    assert output.push(one("Ġ")) == ChoiceOutput(0, 1, tuple(ids("Ġ")), (" ",))
    assert (output.position, output.num_tokens) == (2, 2)


def test_half_a_character_is_held_back_until_it_is_whole() -> None:
    output = builder()
    assert output.push(_PARTY) is None
    assert (output.position, output.num_tokens) == (0, 1)
    assert output.push(_POPPER) == ChoiceOutput(0, 0, (_PARTY, _POPPER), ("", "🎉"))


def test_half_a_character_at_the_end_is_shown_as_fffd() -> None:
    output = builder(max_tokens=2)
    assert joined(run(output, [*ids("a"), _PARTY])) == ChoiceOutput(
        0, 0, (*ids("a"), _PARTY), ("a", "\ufffd"), LENGTH
    )
    assert joined(run(builder(), [_PARTY, _EOS])) == ChoiceOutput(0, 0, (_PARTY, _EOS), ("\ufffd", ""), STOP)


def test_a_stop_token_counts_and_has_no_text() -> None:
    assert run(builder(max_tokens=1), [_EOS]) == [ChoiceOutput(0, 0, (_EOS,), ("",), STOP)]


def test_another_special_token_counts_has_no_text_and_ends_nothing() -> None:
    assert run(builder(), [_EOS + 1]) == [ChoiceOutput(0, 0, (_EOS + 1,), ("",))]


def test_the_token_limit_ends_a_choice() -> None:
    assert joined(run(builder(max_tokens=2), ids("a", "b", "c"))) == ChoiceOutput(
        0, 0, tuple(ids("a", "b")), ("a", "b"), LENGTH
    )


def test_what_may_begin_a_stop_string_is_held_back() -> None:
    output = builder(stop=("bac",))
    assert run(output, ids("a", "b", "a")) == [ChoiceOutput(0, 0, tuple(ids("a")), ("a",))]
    assert output.push(one("a")) == ChoiceOutput(0, 1, tuple(ids("b", "a", "a")), ("b", "a", "a"))


def test_a_stop_string_cuts_the_text_before_it_and_keeps_its_tokens() -> None:
    assert joined(run(builder(stop=("bc",)), ids("a", "ab", "cab"))) == ChoiceOutput(
        0, 0, tuple(ids("a", "ab", "cab")), ("a", "a", ""), Finish("stop", "bc")
    )


def test_what_was_held_back_is_shown_when_the_choice_ends_otherwise() -> None:
    expected = ChoiceOutput(0, 0, (*ids("a", "b"), _EOS), ("a", "b", ""), STOP)
    assert joined(run(builder(stop=("bac",)), [*ids("a", "b"), _EOS])) == expected


def test_a_stop_string_outdoes_the_token_limit() -> None:
    assert joined(run(builder(stop=("b",), max_tokens=2), ids("a", "b"))) == ChoiceOutput(
        0, 0, tuple(ids("a", "b")), ("a", ""), Finish("stop", "b")
    )


def test_a_stop_string_may_consist_of_what_was_no_text() -> None:
    assert joined(run(builder(stop=("\ufffd",), max_tokens=2), [*ids("a"), _PARTY])) == ChoiceOutput(
        0, 0, (*ids("a"), _PARTY), ("a", ""), Finish("stop", "\ufffd")
    )


def test_replay_finds_that_the_choice_was_over() -> None:
    over = ChoiceOutput(0, 2, (), (), LENGTH)
    assert builder(max_tokens=2).replay(ChoiceOutput(0, 0, tuple(ids("a", "b")), ("a", "b"))) == over
    assert builder().replay(ChoiceOutput(0, 0, (_EOS,), ("",))) == ChoiceOutput(0, 1, (), (), STOP)
    assert builder().replay(ChoiceOutput(0, 0, tuple(ids("a")), ("a",))) is None


def test_a_text_that_nothing_may_follow_ends_the_choice() -> None:
    output = builder(max_tokens=2, min_tokens=2, stop=("ba",))
    assert output.push(one("b"), is_complete=True) == ChoiceOutput(0, 0, tuple(ids("b")), ("b",), STOP)
    output = builder(max_tokens=2)
    output.push(one("a"))
    assert output.push(one("b"), is_complete=True) == ChoiceOutput(0, 1, tuple(ids("b")), ("b",), STOP)


def test_replay_finds_that_nothing_may_follow() -> None:
    so_far = ChoiceOutput(0, 0, tuple(ids("a", "b")), ("a", "b"))
    assert builder().replay(so_far, is_complete=True) == ChoiceOutput(0, 2, (), (), STOP)
    assert builder(stop=("bc",)).replay(so_far, is_complete=True) == ChoiceOutput(0, 2, (), (), STOP)


def test_other_tokens_after_a_resume_change_nothing_that_was_shown() -> None:
    """A machine that is not exact may go on otherwise: `b` was shown because an `a` followed that is lost."""
    output = builder(stop=("bc",))
    assert output.replay(ChoiceOutput(0, 0, tuple(ids("a", "b")), ("a", "b"))) is None
    assert output.push(one("cab")) == ChoiceOutput(0, 2, tuple(ids("cab")), ("",), Finish("stop", "bc"))


def test_a_users_stop_token_ends_a_choice_and_its_text_is_not_shown() -> None:
    output = builder(stop_token_ids=(one("cab"), _EOS))
    assert joined(run(output, ids("a", "cab"))) == ChoiceOutput(0, 0, tuple(ids("a", "cab")), ("a", ""), STOP)


def test_the_finish_says_which_stop_token_of_the_clients_ended_the_choice() -> None:
    for token_id, matched in ((one("cab"), one("cab")), (_EOS, None)):
        output = builder(stop_token_ids=(one("cab"), _EOS), named_stop_token_ids=(one("cab"),))
        assert joined(run(output, [*ids("a"), token_id])).finish == Finish("stop", matched)


def test_a_stop_token_that_ignore_eos_leaves_out_ends_nothing() -> None:
    output = builder(stop_token_ids=(), max_tokens=2)
    assert joined(run(output, [_EOS, *ids("a")])) == ChoiceOutput(0, 0, (_EOS, *ids("a")), ("", "a"), LENGTH)


def test_before_min_tokens_neither_a_stop_token_nor_a_stop_string_ends_a_choice() -> None:
    tokens = [one("cab"), _EOS, *ids("b", "c", "a", "b")]
    output = builder(stop=("b", "ca"), min_tokens=3)
    assert joined(run(output, tokens)) == ChoiceOutput(
        0, 0, tuple(tokens[:5]), ("cab", "", "b", "", ""), Finish("stop", "ca")
    )
    assert joined(run(builder(min_tokens=1), [_EOS, _EOS, *ids("a")])).token_ids == (_EOS, _EOS)


def test_a_stop_string_that_begins_before_min_tokens_may_end_after_it() -> None:
    output = builder(stop=("bac",), min_tokens=2)
    assert run(output, ids("a", "ba")) == [ChoiceOutput(0, 0, tuple(ids("a")), ("a",))]
    assert output.push(one("c")) == ChoiceOutput(0, 1, tuple(ids("ba", "c")), ("", ""), Finish("stop", "bac"))


def test_the_token_limit_ends_a_choice_before_min_tokens() -> None:
    assert joined(run(builder(stop=("b",), max_tokens=2, min_tokens=9), ids("a", "b"))) == ChoiceOutput(
        0, 0, tuple(ids("a", "b")), ("a", "b"), LENGTH
    )


def test_a_stop_string_that_is_included_holds_nothing_back_and_ends_the_text() -> None:
    output = builder(stop=("bac",), includes_stop=True, logprobs=0)
    assert run(output, ids("a", "b"))[1] == ChoiceOutput(0, 1, tuple(ids("b")), ("b",), logprobs=())
    ended = output.push(one("a")), output.push(one("cab"), Scores(-1.0, ()))
    assert ended[1] == ChoiceOutput(
        0,
        3,
        tuple(ids("cab")),
        ("c",),
        Finish("stop", "bac"),
        (TokenLogprobs(candidate(one("cab"), b"cab", -1.0), ()),),
    )


def test_a_stop_token_that_is_included_shows_its_text_unless_it_is_special() -> None:
    stops = (one("cab"), _EOS)
    output = builder(stop_token_ids=stops, includes_stop=True)
    assert joined(run(output, ids("a", "cab"))).texts == ("a", "cab")
    output = builder(stop_token_ids=stops, includes_stop=True)
    assert joined(run(output, [*ids("a"), _PARTY, _EOS])).texts == ("a", "", "\ufffd")
    output = builder(stop_token_ids=stops, includes_stop=True, stop=("ca",))
    assert joined(run(output, ids("cab"))) == ChoiceOutput(
        0, 0, tuple(ids("cab")), ("ca",), Finish("stop", "ca")
    )


def test_special_tokens_are_shown_where_the_request_wants_them_but_for_one_that_stops() -> None:
    tokens = [_EOS + 1, *ids("a"), _EOS]
    assert joined(run(builder(shows_special=True), tokens)).texts == ("<|other|>", "a", "")
    both = builder(shows_special=True, includes_stop=True)
    assert joined(run(both, tokens)).texts == ("<|other|>", "a", "<|end|>")
    assert joined(run(builder(shows_special=True, stop=("r|>a",)), tokens)).text == "<|othe"


def candidate(token_id: int, raw: bytes, logprob: float) -> Candidate:
    return Candidate(token_id, raw, logprob)


def test_log_probabilities_come_with_their_tokens_also_with_those_held_back() -> None:
    output = builder(logprobs=2)
    scores = Scores(-0.5, ((_PARTY, -0.5), (_EOS, -1.5)))
    alternatives = (candidate(_PARTY, b"\xf0\x9f", -0.5), candidate(_EOS, b"", -1.5))
    assert output.push(_PARTY, scores) is None
    released = output.push(_POPPER, Scores(-2.0, ()))
    assert released is not None and released.logprobs == (
        TokenLogprobs(candidate(_PARTY, b"\xf0\x9f", -0.5), alternatives),
        TokenLogprobs(candidate(_POPPER, b"\x8e\x89", -2.0), ()),
    )


def test_what_adds_nothing_to_the_text_has_log_probabilities_without_bytes() -> None:
    scores = Scores(-1.0, ())

    def raws(output: OutputBuilder, tokens: list[int]) -> list[bytes]:
        return [one.chosen.raw for one in joined(run(output, tokens, scores)).logprobs or ()]

    assert raws(builder(logprobs=0), [*ids("a"), _EOS + 1, _EOS]) == [b"a", b"", b""]
    assert raws(builder(logprobs=0, stop_token_ids=(one("c"),)), ids("a", "c")) == [b"a", b""]
    assert raws(builder(logprobs=0, stop=("bc",)), ids("a", "ab", "cab")) == [b"a", b"ab", b""]
    assert raws(builder(logprobs=0, stop=("🎉a",)), [*ids("b"), _PARTY, _POPPER, *ids("ab")]) == [
        b"b",
        b"",
        b"",
        b"",
    ]


_TOKENS = st.lists(st.integers(0, _EOS + 2), max_size=25)
_SHOWN = st.fixed_dictionaries({"includes_stop": st.booleans(), "shows_special": st.booleans()})
_STOPS = st.lists(st.sampled_from(["ab", "bab", "abc", "c ", "🎉a", "\ufffd", "aabaab"]), max_size=3).map(
    tuple
)


@given(_TOKENS, _STOPS, st.integers(1, 20), st.integers(0, 9), st.sampled_from([None, 0]), _SHOWN)
def test_a_resume_at_any_point_of_release_gives_the_same_tokens_texts_and_end(
    token_ids: list[int],
    stop: tuple[str, ...],
    max_tokens: int,
    min_tokens: int,
    logprobs: int | None,
    shown: dict[str, Any],
) -> None:
    def fresh() -> OutputBuilder:
        return builder(stop=stop, max_tokens=max_tokens, min_tokens=min_tokens, logprobs=logprobs, **shown)

    scores = None if logprobs is None else Scores(-1.0, ())
    outputs = run(fresh(), token_ids, scores)
    whole = joined(outputs)
    for end in range((outputs[-1].start if whole.finish else whole.end) + 1):
        released = None if whole.logprobs is None else whole.logprobs[:end]
        so_far = ChoiceOutput(0, 0, whole.ids[:end], whole.texts[:end], logprobs=released)
        output = fresh()
        assert output.replay(so_far) is None
        rest = run(output, token_ids[end:], scores)
        assert joined([so_far, *rest]) == whole
        assert output.position == whole.end


@given(_TOKENS, _STOPS, st.integers(1, 20), st.integers(0, 9))
def test_a_stop_string_ends_a_choice_where_a_token_after_min_tokens_completes_it(
    token_ids: list[int], stop: tuple[str, ...], max_tokens: int, min_tokens: int
) -> None:
    words = tuple([word for word in stop if word != "\ufffd"])
    whole = joined(run(builder(stop=words, max_tokens=max_tokens, min_tokens=min_tokens), token_ids))
    plain = joined(run(builder(max_tokens=max_tokens, min_tokens=min_tokens), token_ids))
    ends = [0, *itertools.accumulate(map(len, plain.texts))]
    completing = [
        num
        for num in range(min_tokens + 1, plain.end + 1)
        if any(plain.text[:at].endswith(words) for at in range(ends[num - 1] + 1, ends[num] + 1))
    ]
    if completing:
        assert whole.end == completing[0] and whole.finish is not None
        assert whole.finish.reason == "stop" and whole.finish.matched in words
    else:
        assert whole.finish == plain.finish
        assert plain.text.startswith(whole.text) and whole.token_ids == plain.ids[: whole.end]


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


@given(_TOKENS, _STOPS, st.integers(0, 9))
def test_what_stops_a_choice_is_all_that_including_it_adds(
    token_ids: list[int], stop: tuple[str, ...], min_tokens: int
) -> None:
    without = joined(run(builder(stop=stop, min_tokens=min_tokens), token_ids))
    included = joined(run(builder(stop=stop, min_tokens=min_tokens, includes_stop=True), token_ids))
    if not without.finish and not included.finish:
        return
    assert (included.token_ids, included.finish) == (without.token_ids, without.finish)
    assert included.text.startswith(without.text)
    if (added := included.text.removeprefix(without.text)) and without.ids[-1] != _EOS:
        assert added in stop


@given(_TOKENS, _STOPS)
def test_releases_follow_each_other_and_only_the_last_has_a_finish(
    token_ids: list[int], stop: tuple[str, ...]
) -> None:
    outputs = run(builder(stop=stop, max_tokens=15), token_ids)
    assert [output.start for output in outputs[1:]] == [output.end for output in outputs[:-1]]
    assert all(output.finish is None for output in outputs[:-1])
    assert all(len(output.ids) == len(output.texts) > 0 for output in outputs)


def telling_builder(index: int = 0) -> OutputBuilder:
    sampling = SamplingParams(max_tokens=100, seed=0, n=2, prompt_logprobs=1)
    return OutputBuilder(token_bytes(), ResolvedRequest(((1, 2, 3),), sampling, (_EOS,), "revision"), index)


A_B = [PromptToken(one("b"), -1.0, 2, ((one("ab"), -0.5),)), PromptToken(_EOS, -3.0, 9, ((one("a"), -0.5),))]


def test_prompt_logprobs_go_with_the_first_final_tokens() -> None:
    output = telling_builder()
    output.read_prompt(A_B[:1])
    output.read_prompt(A_B[1:])
    assert output.push(_PARTY) is None
    scored = PromptLogprobs(
        tuple(A_B), {one("b"): "b", one("ab"): "ab", one("a"): "a", _EOS: "<|end|>"}
    )  # fmt: skip
    assert output.push(_POPPER) == ChoiceOutput(
        0, 0, (_PARTY, _POPPER), ("", "🎉"), prompt_logprobs=scored
    )  # fmt: skip
    assert output.push(one("a")) == ChoiceOutput(0, 2, (one("a"),), ("a",))


def test_a_prompt_of_one_token_has_nothing_to_tell_and_says_so() -> None:
    first = telling_builder().push(one("a"))
    assert first is not None and first.prompt_logprobs == PromptLogprobs()


def test_other_choices_and_continuations_tell_nothing_of_the_prompt() -> None:
    assert telling_builder(1).push(one("a")) == ChoiceOutput(1, 0, (one("a"),), ("a",))
    continued = telling_builder()
    assert continued.replay(ChoiceOutput(0, 0, (one("a"),), ("a",))) is None
    assert continued.push(one("b")) == ChoiceOutput(0, 1, (one("b"),), ("b",))


def test_an_echoed_prompt_is_text_of_the_first_token() -> None:
    output = joined(run(builder(echo="ab?", stop=("b?a",), max_tokens=2), ids("a", "b")))
    assert output.marks == {0: (Text("ab?"), Text("a"))} and output.texts == ("", "b")
    assert output.text == "ab?ab" and output.finish == LENGTH


def test_an_echoed_prompt_comes_with_the_first_release_only() -> None:
    first, second = run(builder(echo="x", max_tokens=3), ids("a", "b"))
    assert (first.text, second.marks, second.text) == ("xa", None, "b")


def test_a_first_token_without_text_has_the_prompt_alone() -> None:
    output = joined(run(builder(echo="x"), [_EOS]))
    assert output.marks == {0: (Text("x"),)} and output.finish == STOP


def test_a_request_that_only_looks_at_its_prompt_shows_no_token() -> None:
    scores = Scores(-1.0, ())
    for token_id in (one("a"), _EOS):
        output = joined(run(builder(prompt_only=True, max_tokens=1, logprobs=0), [token_id], scores))
        assert (output.text, output.finish, output.logprobs) == ("", LENGTH, None)


def test_an_echo_tells_the_tokens_of_its_prompt() -> None:
    prompt = (_EOS, one("a"), _PARTY)
    output = builder(echo="a", prompt_logprobs=0, prompt=prompt)
    output.read_prompt([PromptToken(one("a"), -1.0, 1), PromptToken(_PARTY, -2.0, 3)])
    (released,) = run(output, ids("b"))
    found = released.prompt_logprobs
    assert found is not None and (found.first, found.text) == (_EOS, "a")
    assert found.raws == {_EOS: b"", one("a"): b"a", _PARTY: b"\xf0\x9f"}
    assert found.texts == {_EOS: "<|end|>", one("a"): "a", _PARTY: "\ufffd"}
