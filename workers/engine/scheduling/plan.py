"""Plan: what one step computes. Knows no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from workers.engine.scheduling.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Row:
    """`count` tokens of a sequence from `start` on, computed in one step."""

    sequence: Sequence
    slot: int
    start: int
    count: int
    #: The last of them, where they are only guessed to follow what the sequence has.
    draft: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        return self.start + self.count

    @property
    def num_own(self) -> int:
        """Tokens that the sequence has."""
        return self.count - len(self.draft)

    @property
    def draws(self) -> bool:
        """Whether the step computes the sequence's last token, so that the next one can be drawn."""
        return self.start + self.num_own == self.sequence.num_tokens

    @property
    def wanted(self) -> range:
        """The positions whose logits the step is to give: to tell of the prompt, and then to draw from."""
        told = self.sequence.num_told
        if told is not None and self.sequence.tells_prompt:
            return range(max(self.start, told), self.end)
        return range(self.end - 1 - len(self.draft), self.end) if self.draws else range(0)

    @property
    def token_ids(self) -> list[int]:
        return [*self.sequence.token_ids[self.start : self.start + self.num_own], *self.draft]

    @property
    def room(self) -> int:
        """Tokens that its slot is to hold: those the sequence has, and a draft."""
        return max(self.end, self.sequence.num_tokens)


@dataclass(frozen=True, slots=True)
class Turn:
    """A token to be drawn."""

    sequence: Sequence
    #: From which of the logits that the step draws from.
    index: int
    #: What it and those behind it are guessed to be, the logits of each of which follow.
    draft: tuple[int, ...] = ()

    @property
    def next(self) -> Turn:
        """When the token is as guessed."""
        return Turn(self.sequence, self.index + 1, self.draft[1:])


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: first the rows of one token, by slot, then the longer ones."""

    rows: tuple[Row, ...]
    #: Slots that a sequence left since the plan before; some of them may have another one already.
    freed: tuple[int, ...] = ()
    #: Sequences that got a slot; the tokens of them that count as computed are to be copied into it.
    admitted: tuple[Sequence, ...] = ()
    #: Whether the logits of every token are wanted, whatever its row says.
    wants_all: bool = False

    @property
    def drawing_rows(self) -> list[Row]:
        return [row for row in self.rows if row.draws]

    @property
    def turns(self) -> list[Turn]:
        """The first token that each row draws."""
        drawing = self.drawing_rows
        ends = accumulate(len(row.draft) + 1 for row in drawing)
        return [
            Turn(row.sequence, end - len(row.draft) - 1, row.draft)
            for row, end in zip(drawing, ends, strict=True)
        ]

    def logit_indices(self, ends: Iterable[int]) -> list[int]:
        """Which tokens' logits are wanted, row by row; `ends`: where those of each row end in the step's."""
        return [
            end - row.end + position
            for row, end in zip(self.rows, ends, strict=True)
            for position in (range(row.start, row.end) if self.wants_all else row.wanted)
        ]

    @property
    def num_tokens(self) -> int:
        return sum(row.count for row in self.rows)
