"""Word forms: the tokens in which a word can come within a text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from shared.errors import invalid_value


def word_forms(
    words: Sequence[str], encode: Callable[[str], list[int]], *, param: str
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Of each word, with its place in the request: its tokens, and those that it has behind a space.

    As vLLM does it (vllm/sampling_params.py, update_from_tokenizer): space before a word does not count, and
    the form with one is another where it has another first token and as many. Raises RequestError.
    """
    for index, word in enumerate(words):
        place = f"{param}[{index}]"
        bare = encode(word.lstrip())
        if not bare:
            raise invalid_value(place, "it must be more than space")
        yield place, tuple(bare)
        spaced = encode(" " + word.lstrip())
        if spaced and spaced[0] != bare[0] and len(spaced) == len(bare):
            yield place, tuple(spaced)
