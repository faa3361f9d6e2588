"""workers.engine.constraints.token_filter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.constraint import Constraint
from shared.errors import RequestError
from tests.unit.workers.engine.constraints.test_matcher import END, TOKENS, begin
from tests.unit.workers.engine.sampling_reference import params
from workers.engine.constraints.token_filter import TokenFilter
from workers.engine.constraints.token_mask import TokenRule

#: A size that is not a multiple of eight, and one that is.
_SIZES = st.sampled_from([19, 24])
_IDS = st.integers(0, 18)


def _allowed(rule: TokenRule) -> set[int]:
    return set(np.unpackbits(rule.allowed(), bitorder="little").nonzero()[0].tolist())


def _filter(size: int = 19, grammar: TokenRule | None = None, **lists: Any) -> TokenRule:
    rule = TokenFilter.of(params(**lists), size, grammar)
    assert rule is not None
    return rule


@given(_SIZES, st.sets(_IDS), st.lists(st.lists(_IDS, min_size=1, max_size=2).map(tuple), max_size=4), _IDS)
def test_listed_tokens_that_complete_no_bad_word_are_allowed(
    size: int, listed: set[int], words: list[tuple[int, ...]], first: int
) -> None:
    if not listed and not words:
        return
    rule = _filter(size, allowed_token_ids=tuple(sorted(listed)), bad_words=tuple(words))
    free = (listed or set(range(size))) - {word[0] for word in words if len(word) == 1}
    assert _allowed(rule) == free
    if first in free:
        rule.push(first)
        assert _allowed(rule) == free - {word[1] for word in words if word[0] == first and len(word) == 2}


def test_without_lists_only_the_grammar_applies() -> None:
    assert TokenFilter.of(params(), 10, None) is None
    grammar = begin()
    assert TokenFilter.of(params(), len(TOKENS), grammar) is grammar


def test_a_grammar_and_both_lists_apply_together() -> None:
    """The grammar's texts are: yes, yes no, no, no way, now."""
    ye, yes, o_w = TOKENS.index(b"ye"), TOKENS.index(b"yes"), TOKENS.index(b"o w")
    lists = {"allowed_token_ids": (*b"nos wy", ye, yes, END), "bad_words": ((yes,), (*b"no", ord(" ")))}
    rule = _filter(len(TOKENS), begin(), **lists)
    assert _allowed(rule) == {ord("n"), ord("y"), ye}
    rule.push(ord("n"))
    assert _allowed(rule) == {ord("o")} and o_w not in _allowed(rule)
    rule.push(ord("o"))
    assert _allowed(rule) == {ord("w"), END}
    rule.push(ord("w"))
    assert rule.is_complete


def test_a_text_without_a_grammar_is_never_complete() -> None:
    assert not _filter(allowed_token_ids=(1,)).is_complete


@pytest.mark.parametrize(
    ("lists", "param", "named"),
    [
        ({"allowed_token_ids": tuple(b"xz")}, "allowed_token_ids", "'allowed_token_ids' and the grammar"),
        ({"bad_words": tuple((i,) for i in range(len(TOKENS)))}, "bad_words", "'bad_words' and the grammar"),
        (
            {"allowed_token_ids": tuple(b"ny"), "bad_words": tuple((one,) for one in b"ny")},
            "allowed_token_ids",
            "'allowed_token_ids' and 'bad_words' and the grammar",
        ),
    ],
)
def test_if_no_token_is_left_the_error_names_the_parameters(
    lists: dict[str, Any], param: str, named: str
) -> None:
    constraint = Constraint("choice", "[]", "structured_outputs.choice")
    rule = _filter(len(TOKENS), begin(), constraint=constraint, **lists)
    assert not _allowed(rule)
    with pytest.raises(RequestError) as raised:
        rule.push(ord("x"))
    info = raised.value.info
    assert (info.status, info.code, info.param) == (400, "no_token_left", param)
    assert named in info.message


@pytest.mark.parametrize("token_id", [3, 5])
def test_a_barred_token_is_refused(token_id: int) -> None:
    rule = _filter(allowed_token_ids=(4, 5), bad_words=((5,),))
    with pytest.raises(RequestError, match="leave no allowed next token"):
        rule.push(token_id)


def test_if_the_grammar_cannot_continue_its_error_is_raised() -> None:
    stuck = begin("regex", "[\u4e00]", begun=None)
    rule = _filter(len(TOKENS), stuck, bad_words=((1,),))
    with pytest.raises(RequestError, match="grammar is too complex"):
        rule.push(ord("a"))
