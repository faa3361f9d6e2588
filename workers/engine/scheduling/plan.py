"""Plan: the tokens that one step computes. Does not import torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from workers.engine.scheduling.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Row:
    """`count` tokens of a sequence, beginning at position `start`, computed in one step."""

    sequence: Sequence
    slot: int
    start: int
    count: int
    #: The last of these tokens, if they are a draft that continues the sequence.
    draft: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        return self.start + self.count

    @property
    def num_own(self) -> int:
        """Tokens that belong to the sequence, without the draft."""
        return self.count - len(self.draft)

    @property
    def draws(self) -> bool:
        """Whether the step computes the sequence's last token, so that the next one can be drawn."""
        return self.start + self.num_own == self.sequence.num_tokens

    @property
    def wanted(self) -> range:
        """The positions whose logits the step returns: for prompt log probabilities, or to draw from."""
        num_scored = self.sequence.num_prompt_scored
        if num_scored is not None and self.sequence.wants_prompt_logprobs:
            return range(max(self.start, num_scored), self.end)
        return range(self.end - 1 - len(self.draft), self.end) if self.draws else range(0)

    @property
    def token_ids(self) -> list[int]:
        return [*self.sequence.token_ids[self.start : self.start + self.num_own], *self.draft]

    @property
    def room(self) -> int:
        """Tokens that the slot must hold: those of the sequence, and the draft."""
        return max(self.end, self.sequence.num_tokens)


@dataclass(frozen=True, slots=True)
class Draw:
    """One token to be drawn."""

    sequence: Sequence
    #: Index into the logits that the step draws from.
    index: int
    #: The draft for this token and the following ones. Their logits follow at the next indices.
    draft: tuple[int, ...] = ()

    @property
    def next(self) -> Draw:
        """The next token to draw, if this one was accepted."""
        return Draw(self.sequence, self.index + 1, self.draft[1:])


#: The former name, which `engine.py` still imports.


@dataclass(frozen=True, slots=True)
class Plan:
    """One step. Rows of one token come first, ordered by slot; longer rows follow."""

    rows: tuple[Row, ...]
    #: Slots freed since the previous plan. Some may already belong to another sequence.
    freed: tuple[int, ...] = ()
    #: Sequences that received a slot. Their tokens that count as computed must be copied into it.
    admitted: tuple[Sequence, ...] = ()
    #: Whether to return the logits of every token, regardless of `Row.wanted`.
    wants_all: bool = False

    @property
    def drawing_rows(self) -> list[Row]:
        return [row for row in self.rows if row.draws]

    @property
    def draws(self) -> list[Draw]:
        """The first token that each row draws."""
        drawing = self.drawing_rows
        ends = accumulate(len(row.draft) + 1 for row in drawing)
        return [
            Draw(row.sequence, end - len(row.draft) - 1, row.draft)
            for row, end in zip(drawing, ends, strict=True)
        ]

    def logit_indices(self, ends: Iterable[int]) -> list[int]:
        """Indices of the tokens whose logits are requested, row by row.

        `ends`: for each row, the index in the step after its last token.
        """
        return [
            end - row.end + position
            for row, end in zip(self.rows, ends, strict=True)
            for position in (range(row.start, row.end) if self.wants_all else row.wanted)
        ]

    @property
    def num_tokens(self) -> int:
        return sum(row.count for row in self.rows)
