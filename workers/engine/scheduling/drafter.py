"""Drafter: proposes the next tokens of a sequence by n-gram lookup in its own tokens. Does not import torch.

Prompt lookup decoding (https://github.com/apoorvumang/prompt-lookup-decoding): answers that quote, correct or
list things often repeat the prompt or themselves.
"""

from __future__ import annotations

#: A draft requires that the last 3 tokens occurred before.
_NGRAM = 3
#: Longer matches are not distinguished.
_MAX_MATCH = 16
#: Maximum length of a draft.
_MAX_DRAFT = 16
#: After a rejected draft, drafting pauses for some tokens. Each further rejection in a row doubles the pause,
#: up to this.
_MAX_PAUSE = 64


class Drafter:
    """The drafter of one sequence.

    Longer matches give longer drafts. Rejected drafts make further ones rarer.
    """

    def __init__(self) -> None:
        #: The position after the last occurrence of each n-gram that has a following token.
        self._positions: dict[tuple[int, ...], int] = {}
        self._num_read = 0
        self._pause = 0
        self._silent_until = 0

    def draft(self, token_ids: list[int], max_tokens: int, min_probability: float) -> tuple[int, ...]:
        """Propose tokens that may follow `token_ids`, which must extend the tokens of the previous call.

        Returns up to `max_tokens` tokens, none with an estimated acceptance probability below
        `min_probability`.
        """
        if len(token_ids) < self._silent_until:
            return ()
        self._read(token_ids)
        position = self._positions.get(tuple(token_ids[-_NGRAM:]))
        if position is None:
            return ()
        length = _length(_match(token_ids, position), min(max_tokens, _MAX_DRAFT), min_probability)
        period = len(token_ids) - position
        return tuple([token_ids[position + i % period] for i in range(length)])

    def learn(self, num_accepted: int) -> None:
        """Record how many tokens of the last draft were accepted."""
        if num_accepted:
            self._pause = 0
        else:
            self._pause = min(2 * self._pause or 2, _MAX_PAUSE)
            self._silent_until = self._num_read + self._pause

    def _read(self, token_ids: list[int]) -> None:
        for position in range(max(self._num_read, _NGRAM), len(token_ids)):
            self._positions[tuple(token_ids[position - _NGRAM : position])] = position
        self._num_read = len(token_ids)


def _match(token_ids: list[int], position: int) -> int:
    """The number of last tokens that also precede `position`. At least _NGRAM."""
    length = _NGRAM
    while length < min(position, _MAX_MATCH) and token_ids[position - 1 - length] == token_ids[-1 - length]:
        length += 1
    return length


def _length(match: int, max_tokens: int, min_probability: float) -> int:
    """The number of tokens to draft, up to `max_tokens`, after a match of `match` tokens.

    After a match of m tokens, the next token matches too in m of m + 2 cases. This fits chats of SmolLM2 with
    itself and texts it repeats: 3 in 5 after 3 tokens, 9 in 10 after 16.
    """
    length, chance = 0, 1.0
    while (
        length < max_tokens
        and (chance := chance * (match + length) / (match + length + 2)) >= min_probability
    ):
        length += 1
    return length
