"""workers.requests.word_forms."""

from __future__ import annotations

import pytest

from shared.errors import RequestError
from workers.requests.word_forms import word_forms

#: A tokenizer's answers.
_TOKENS = {
    "cat": [1], " cat": [2],
    "Hello": [3, 4], " Hello": [5],
    "x": [6], " x": [6],
    "y": [7], " y": [],
    "": [],
}  # fmt: skip


def forms(*words: str) -> list[tuple[str, tuple[int, ...]]]:
    return list(word_forms(words, _TOKENS.__getitem__, param="bad_words"))


def test_a_word_has_a_form_after_a_space_with_another_first_token_and_equal_length() -> None:
    assert forms("cat") == [("bad_words[0]", (1,)), ("bad_words[0]", (2,))]
    assert forms("Hello", "x", "y") == [
        ("bad_words[0]", (3, 4)),
        ("bad_words[1]", (6,)),
        ("bad_words[2]", (7,)),
    ]


def test_space_before_a_word_does_not_count() -> None:
    assert forms(" \n cat") == forms("cat")


def test_a_word_that_is_only_space_is_refused_with_its_place() -> None:
    with pytest.raises(RequestError) as raised:
        forms("cat", "  ")
    assert (raised.value.info.status, raised.value.info.param) == (400, "bad_words[1]")
