"""workers.engine.constraints.bad_words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.engine.constraints.bad_words import BadWords

#: Few tokens, so that words begin again and again, overlap, and end one another.
_TOKENS = st.integers(0, 2)
_WORDS = st.lists(st.lists(_TOKENS, min_size=1, max_size=4).map(tuple), max_size=5)


def _barred(words: list[tuple[int, ...]], output: list[int]) -> set[int]:
    """The definition, spelt out."""
    return {last for *others, last in words if output[len(output) - len(others) :] == others}


@given(_WORDS, st.lists(_TOKENS, max_size=12))
def test_the_last_token_of_each_word_is_barred_whose_others_end_the_output(
    words: list[tuple[int, ...]], output: list[int]
) -> None:
    bad = BadWords(words)
    assert bad.barred == _barred(words, [])
    for num, token_id in enumerate(output, 1):
        bad.push(token_id)
        assert bad.barred == _barred(words, output[:num])


def test_a_word_is_within_the_output_alone() -> None:
    bad = BadWords([(1, 2), (2,)])
    assert bad.barred == {2}
    bad.push(1)
    assert bad.barred == {2}
    assert BadWords([(1, 2)]).barred == frozenset()
