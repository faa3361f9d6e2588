"""word_forms: the token sequences in which a word can occur in a text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from shared.errors import invalid_value


def word_forms(
    words: Sequence[str], encode: Callable[[str], list[int]], *, param: str
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the tokens of each word, without and with a leading space, and the word's field in the request.

    As in vLLM (vllm/sampling_params.py, update_from_tokenizer), leading space of a word is ignored. The form with a
    space counts only if it has a different first token and the same number of tokens. Raises RequestError.
    """
    for index, word in enumerate(words):
        field = f"{param}[{index}]"
        bare = encode(word.lstrip())
        if not bare:
            raise invalid_value(field, "it must not be only spaces")
        yield field, tuple(bare)
        spaced = encode(" " + word.lstrip())
        if spaced and spaced[0] != bare[0] and len(spaced) == len(bare):
            yield field, tuple(spaced)
