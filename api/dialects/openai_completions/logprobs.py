"""Log probabilities in the form of OpenAI's completions: four parallel lists, the prompt's tokens first with `echo`."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from shared.domain.output import Candidate, ChoiceOutput, Text, TokenLogprobs, finite_logprob
from shared.domain.prompt_logprobs import PromptLogprobs


class _Token(NamedTuple):
    """One entry of each list."""

    text: str
    #: None for a prompt's first token, which has no token before it.
    logprob: float | None
    #: The most likely tokens. The token itself is always among them.
    top: dict[str, float] | None
    #: Characters of the choice's text before it.
    offset: int


def logprobs_of_choice(
    text: str, logprobs: Sequence[TokenLogprobs], prompt: PromptLogprobs | None, num_top: int
) -> dict[str, Any]:
    """The `logprobs` of a whole choice. `text`: the choice's text. `prompt`: with `echo`, its prompt's tokens."""
    tokens = [] if prompt is None else list(_prompt_tokens(prompt, num_top))
    begin = 0 if prompt is None else len(prompt.text)
    offsets = _offsets((each.chosen.raw for each in logprobs), begin, len(text))
    tokens += [_token(each, offset) for each, offset in zip(logprobs, offsets, strict=True)]
    return _lists(tokens)


def logprobs_of_units(output: ChoiceOutput) -> dict[str, Any]:
    """The `logprobs` of consecutive units in a stream."""
    offset, tokens = output.head.chars, list[_Token]()
    marks = output.marks or {}
    for index, (text, logprobs) in enumerate(zip(output.texts, output.logprobs or (), strict=True)):
        lengths = (
            [len(op.text) for op in marks[index] if isinstance(op, Text)] if index in marks else [len(text)]
        )
        # With `echo`, the first unit's text is the prompt and then its own.
        own = lengths[-1] if len(lengths) != 1 or index not in marks else 0
        tokens.append(_token(logprobs, offset + sum(lengths) - own))
        offset += sum(lengths)
    return _lists(tokens)


def _prompt_tokens(prompt: PromptLogprobs, num_top: int) -> Iterator[_Token]:
    if prompt.first is None:
        return
    ids = [prompt.first, *[token.token_id for token in prompt.tokens]]
    raws = [prompt.raws.get(token_id, b"") for token_id in ids]
    # Some tokenizers put a space before a text that the decoded text does not have.
    missing = len(b"".join(raws).decode(errors="replace")) - len(prompt.text)
    offsets = _offsets(raws, -max(0, missing), len(prompt.text))
    yield _Token(prompt.texts[prompt.first], None, None, next(offsets))
    for token, offset in zip(prompt.tokens, offsets, strict=True):
        top = [(prompt.texts[token_id], logprob) for token_id, logprob in token.top[:num_top]]
        text = prompt.texts[token.token_id]
        yield _Token(text, finite_logprob(token.logprob), _top([(text, token.logprob), *top]), offset)


def _token(logprobs: TokenLogprobs, offset: int) -> _Token:
    chosen, top = logprobs.chosen, logprobs.top
    named = [(_text(candidate), candidate.logprob) for candidate in (chosen, *top)]
    return _Token(_text(chosen), finite_logprob(chosen.logprob), _top(named), offset)


def _top(named: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Tokens with the same text share a name: the most likely one has it."""
    top: dict[str, float] = {}
    for text, logprob in named:
        top[text] = max(finite_logprob(logprob), top.get(text, finite_logprob(logprob)))
    return top


def _text(candidate: Candidate) -> str:
    return candidate.raw.decode("utf-8", "replace")


def _offsets(raws: Iterable[bytes], begin: int, end: int) -> Iterator[int]:
    """Where each token's text begins. A character counts once it is complete."""
    decoder, offset = codecs.getincrementaldecoder("utf-8")("replace"), begin
    for raw in raws:
        yield min(max(0, offset), end)
        offset += len(decoder.decode(raw))


def _lists(tokens: Sequence[_Token]) -> dict[str, Any]:
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [token.top for token in tokens],
        "text_offset": [token.offset for token in tokens],
    }
