"""PartBuilder: assigns a splitter's operations to units, and decides which units can be released."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from shared.domain.output import MAX_OPS, Args, Close, Data, Head, Kind, Op, Open, Reasoning, Refusal, Text
from workers.engine.text.splitter import Splitter

_KINDS: dict[type[Op], Kind] = {Text: "text", Reasoning: "reasoning", Refusal: "refusal", Args: "args"}


class Parts(NamedTuple):
    """The parts of consecutive units, in the form of a ChoiceOutput."""

    texts: tuple[str, ...]
    marks: dict[int, tuple[Op, ...]] | None
    head: Head


class PartBuilder:
    """Assigns the operations that a splitter returns to units.

    Units whose text the splitter holds back are held back too. An operation belongs to the unit after which the
    splitter returned it. Units before it, whose text was held back, have no text of their own.
    """

    def __init__(self, splitter: Splitter) -> None:
        self._splitter = splitter
        #: Operations of each unit that was read and is not released.
        self._units: list[list[Op]] = []
        self._num_whole = 0
        #: Operations beyond the last unit's limit.
        self._left: list[Op] = []
        self._head = Head()
        self._position = 0

    @property
    def num_units(self) -> int:
        """Number of units that were read and are not released."""
        return len(self._units)

    @property
    def num_whole(self) -> int:
        """How many of these units later text can no longer change."""
        return self._num_whole

    def push(self, text: str) -> None:
        """Read the next unit's text."""
        ops = _merged([*self._left, *self._splitter.push(text)])
        self._units.append(ops[:MAX_OPS])
        self._left = ops[MAX_OPS:]
        if not self._left and not self._splitter.is_holding:
            self._num_whole = len(self._units)

    def end(self) -> None:
        """Assign everything that is held back to the last unit, after which no unit follows."""
        last = self._units[-1] = _merged([*self._units[-1], *self._left, *self._splitter.end()])
        if len(last) > MAX_OPS:
            last[MAX_OPS - 1 :] = [Text("".join(map(_content, last[MAX_OPS - 1 :])))]
        self._num_whole = len(self._units)

    def release(self, num: int) -> Parts:
        """Remove the first units and return their parts."""
        units, self._units = self._units[:num], self._units[num:]
        self._num_whole -= num
        before, texts, marks = self._head, list[str](), dict[int, tuple[Op, ...]]()
        for offset, ops in enumerate(units):
            text = _plain(ops, self._head)
            texts.append(text or "")
            if text is None:
                marks[offset] = tuple(ops)
            for op in ops:
                self._head = self._head.after(op, self._position)
            self._position += 1
        return Parts(tuple(texts), marks or None, before)

    def replay(self, texts: Iterable[str], head: Head) -> None:
        """Read units that another worker released. `head` is the state after them.

        Text that the splitter holds back after them was not released.
        """
        for text in texts:
            self.push(text)
        self._position = len(self._units)
        self._head, self._num_whole = head, 0
        self._units.clear()


def _merged(ops: Sequence[Op]) -> list[Op]:
    """Merge consecutive texts of one kind, and drop empty ones."""
    merged: list[Op] = []
    for op in ops:
        if isinstance(op, Text | Reasoning | Refusal | Args):
            if not op.text:
                continue
            if (
                merged
                and isinstance(last := merged[-1], Text | Reasoning | Refusal | Args)
                and type(last) is type(op)
            ):
                merged[-1] = type(op)(last.text + op.text)
                continue
        merged.append(op)
    return merged


def _plain(ops: Sequence[Op], head: Head) -> str | None:
    """Return the text of a unit that only adds to the open item. None: the unit needs a mark."""
    if not ops:
        return ""
    op = ops[0]
    if len(ops) > 1 or not isinstance(op, Text | Reasoning | Refusal | Args):
        return None
    return op.text if _KINDS[type(op)] == (head.kind or "text") else None


def _content(op: Op) -> str:
    match op:
        case Open(name):
            return name
        case Data() | Close():
            return ""
        case Text(text) | Reasoning(text) | Refusal(text) | Args(text):
            return text
