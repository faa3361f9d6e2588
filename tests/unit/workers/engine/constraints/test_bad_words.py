"""workers.engine.constraints.bad_words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.engine.constraints.bad_words import BadWords

#: Few tokens, so that words recur, overlap, and end each other.
_TOKENS = st.integers(0, 2)
_WORDS = st.lists(st.lists(_TOKENS, min_size=1, max_size=4).map(tuple), max_size=5)


def _barred(words: list[tuple[int, ...]], output: list[int]) -> set[int]:
    """The definition, written out."""
    return {last for *others, last in words if output[len(output) - len(others) :] == others}


@given(_WORDS, st.lists(_TOKENS, max_size=12))
def test_a_words_last_token_is_barred_after_its_other_tokens(
    words: list[tuple[int, ...]], output: list[int]
) -> None:
    bad = BadWords(words)
    assert bad.barred == _barred(words, [])
    for num, token_id in enumerate(output, 1):
        bad.push(token_id)
        assert bad.barred == _barred(words, output[:num])


def test_a_word_must_be_within_the_output() -> None:
    bad = BadWords([(1, 2), (2,)])
    assert bad.barred == {2}
    bad.push(1)
    assert bad.barred == {2}
    assert BadWords([(1, 2)]).barred == frozenset()
