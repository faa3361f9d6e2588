"""Compares the allowed tokens with those found by trying all tokens one by one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from llguidance import LLMatcher

from shared.domain.constraint import Constraint, ConstraintKind
from shared.errors import RequestError
from workers.engine.constraints.grammar import compile_grammar, make_tokenizer
from workers.engine.constraints.matcher import Matcher
from workers.engine.constraints.vocabulary import Vocabulary

#: Single bytes, some longer tokens, one duplicate, and two without text. The last is the model's end token.
TOKENS = [bytes([byte]) for byte in range(256)] + [b"ye", b"yes", b"es", b"no", b"no", b"o w", b"", b""]
END = len(TOKENS) - 1
CHOICES = ["yes", "yes no", "no", "no way", "now"]
VOCABULARY = Vocabulary(
    tuple(TOKENS),
    make_tokenizer(TOKENS),
    np.packbits([*map(bool, TOKENS), False], bitorder="little"),
)


def compiled(kind: ConstraintKind, text: str) -> LLMatcher:
    return compile_grammar(VOCABULARY.tokenizer, Constraint(kind, text, "field"))


def broken() -> LLMatcher:
    """A matcher that has reached a limit."""
    matcher = compiled("choice", '["x"]')
    assert not matcher.consume_token(ord("y")) and matcher.is_error()
    return matcher


def begin(
    kind: ConstraintKind = "choice",
    text: str = json.dumps(CHOICES),
    *,
    stop_token_ids: tuple[int, ...] = (END,),
    begun: LLMatcher | None = None,
) -> Matcher:
    def new_matcher() -> LLMatcher:
        return compiled(kind, text)

    return Matcher(begun or new_matcher(), new_matcher, VOCABULARY, stop_token_ids)


def allowed(matcher: Matcher) -> set[int]:
    bits = np.unpackbits(matcher.allowed(), bitorder="little")
    return set(np.flatnonzero(bits).tolist())


def expected(text: bytes, stop_token_ids: tuple[int, ...] = (END,)) -> set[int]:
    """By trial: a token may follow if some choice begins with the result."""
    choices = [choice.encode() for choice in CHOICES]
    found = {
        token_id
        for token_id, token in enumerate(TOKENS)
        if token and any(choice.startswith(text + token) for choice in choices)
    }
    return found | set(stop_token_ids if text in choices else ())


def test_every_token_that_may_follow_is_allowed_and_no_other() -> None:
    seen, waiting = set[bytes](), [b""]
    while waiting:
        text = waiting.pop()
        seen.add(text)
        matcher = begin()
        for byte in text:
            matcher.push(byte)
        assert allowed(matcher) == expected(text), text
        assert matcher.is_complete == (expected(text) == {END})
        longer = {text + TOKENS[token_id] for token_id in expected(text) - {END}}
        waiting += longer - seen
    assert len(seen) == 1 + len({choice[:end] for choice in CHOICES for end in range(1, len(choice) + 1)})


def test_state_is_a_function_of_the_text_not_of_its_tokens() -> None:
    one, other = begin(), begin()
    for token_id in (TOKENS.index(b"n"), TOKENS.index(b"o w")):
        one.push(token_id)
    for byte in b"no w":
        other.push(byte)
    assert allowed(one) == allowed(other) == expected(b"no w")


def test_a_stop_token_that_is_text_is_allowed_as_text_and_at_the_end() -> None:
    stops = (ord("e"), END)
    matcher = begin(stop_token_ids=stops)
    assert allowed(matcher) == expected(b"")
    matcher.push(ord("n"))
    matcher.push(ord("o"))
    assert allowed(matcher) == expected(b"no", stops)
    matcher.push(ord("e"))


def test_the_end_changes_nothing() -> None:
    matcher = begin()
    matcher.push(TOKENS.index(b"yes"))
    matcher.push(END)
    assert allowed(matcher) == expected(b"yes")


def test_tokens_without_text_are_never_allowed() -> None:
    assert allowed(begin("grammar", f'start: <[{END - 1}]> | "a"')) == {ord("a")}
    assert allowed(begin("grammar", f"start: <[{END}]>")) == set()


@pytest.mark.parametrize("token_id", [ord("x"), END, END - 1, 10**6])
def test_a_token_that_is_barred_is_refused(token_id: int) -> None:
    matcher = begin()
    matcher.push(ord("y"))
    with pytest.raises(RequestError) as caught:
        matcher.push(token_id)
    assert caught.value.info.code == "grammar_failed"


def test_a_limit_reached_by_another_text_does_not_fail_this_one() -> None:
    matcher = begin(begun=broken())
    assert allowed(matcher) == expected(b"")
    matcher = begin(begun=broken())
    matcher.push(ord("n"))
    assert allowed(matcher) == expected(b"n")


def test_after_a_limit_the_tokens_so_far_are_matched_again() -> None:
    begun = compiled("choice", json.dumps(CHOICES))
    matcher = begin(begun=begun)
    matcher.push(ord("n"))
    begun.consume_token(ord("y"))
    assert allowed(matcher) == expected(b"n")


def test_a_grammar_that_cannot_continue_allows_nothing_and_raises() -> None:
    matcher = Matcher(broken(), broken, VOCABULARY, (END,))
    assert allowed(matcher) == set()
    with pytest.raises(RequestError) as caught:
        matcher.push(ord("x"))
    assert (caught.value.info.code, caught.value.info.status) == ("grammar_failed", 500)
    assert not matcher.is_complete
