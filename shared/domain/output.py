"""Output: the released output of a job's choices, unit by unit.

A unit is a token of the local engine or one piece from an upstream service. Most units add plain text. Where the
kind of output changes (reasoning begins, a tool call opens), a *mark* lists the unit's operations instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from shared.domain.prompt_logprobs import PromptLogprobs

#: What plain text belongs to. `args` are the arguments of the open tool call.
Kind = Literal["text", "reasoning", "refusal", "args"]

#: Maximum number of operations at one position. Clients that number events by position rely on the limit.
MAX_OPS = 8
#: OpenAI's value for a token that is very unlikely. JSON has no infinity.
LEAST_LOGPROB = -9999.0


class _Record(msgspec.Struct, frozen=True, array_like=True):
    """Encoded as a JSON array, to keep entries short."""


class Candidate(_Record, frozen=True):
    """A token that could be drawn at a position."""

    token_id: int
    #: The bytes that it adds to the text. They may end within a character.
    raw: bytes
    #: Natural logarithm of its probability under the model alone, without temperature, penalties or bias.
    logprob: float


def finite_logprob(value: float) -> float:
    """Return `value`, or LEAST_LOGPROB if it is smaller or not a number."""
    return value if value > LEAST_LOGPROB else LEAST_LOGPROB


class TokenLogprobs(_Record, frozen=True):
    """Log probabilities at the position of one drawn token."""

    chosen: Candidate
    #: As many of the most likely tokens as the request asked for. The most likely is first, ties are ordered by id.
    top: tuple[Candidate, ...] = ()


class Text(_Record, frozen=True, tag="text"):
    """Text of the answer itself."""

    text: str


class Reasoning(_Record, frozen=True, tag="reasoning"):
    """Text of the model's reasoning."""

    text: str


class Refusal(_Record, frozen=True, tag="refusal"):
    """Text with which the model refuses."""

    text: str


class Open(_Record, frozen=True, tag="open"):
    """A tool call begins."""

    #: The complete name of the tool.
    name: str
    #: The call's id if the backend has one. Otherwise the dialect derives an id from the job and the call's index.
    id: str | None = None


class Args(_Record, frozen=True, tag="args"):
    """Text of the open tool call's arguments."""

    text: str


class Close(_Record, frozen=True, tag="close"):
    """The open item ends."""


class Data(_Record, frozen=True, tag="data"):
    """Opaque data of the open item, such as a signature or encrypted reasoning."""

    name: str
    value: str


Op = Text | Reasoning | Refusal | Open | Args | Close | Data
_KIND_OF: Mapping[type[Op], Kind] = {Text: "text", Reasoning: "reasoning", Refusal: "refusal", Args: "args"}
_OP_OF: Mapping[Kind, type[Text] | type[Reasoning] | type[Refusal] | type[Args]] = {
    "text": Text,
    "reasoning": Reasoning,
    "refusal": Refusal,
    "args": Args,
}


class Head(_Record, frozen=True):
    """The state of a choice's output at one position. An encoder can start from it."""

    #: Index of the open item, or of the next item if none is open.
    item: int = 0
    #: The kind of the open item, to which plain text is added. None: no item is open; plain text opens a `text` item.
    kind: Kind | None = None
    #: Tool calls opened so far.
    calls: int = 0
    #: Position at which the open item began.
    item_start: int = 0
    #: Characters so far in all items of the kind `text`.
    chars: int = 0

    def after(self, op: Op, position: int) -> Head:
        """Return the state after `op`, an operation of the unit at `position`."""
        if isinstance(op, Data):
            return self
        if isinstance(op, Close):
            return self if self.kind is None else Head(self.item + 1, None, self.calls, position, self.chars)
        if isinstance(op, Open):
            return Head(self.item + (self.kind is not None), "args", self.calls + 1, position, self.chars)
        kind = _KIND_OF[type(op)]
        chars = self.chars + (len(op.text) if kind == "text" else 0)
        if kind == self.kind:
            return Head(self.item, kind, self.calls, self.item_start, chars)
        return Head(self.item + (self.kind is not None), kind, self.calls, position, chars)


class Finish(_Record, frozen=True):
    """Why a choice ended."""

    #: `stop`, `length`, `tool_calls`, `content_filter` or a value of an upstream service.
    reason: str
    #: The stop string or stop token id that ended the choice. None: it ended by itself.
    matched: str | int | None = None


class ChoiceOutput(_Record, frozen=True):
    """Consecutive released units of one choice. It can be cut between any two units."""

    index: int
    #: Position of the first unit: the number of units of this choice before it.
    start: int
    #: One id for each unit. None: the backend has no token ids.
    token_ids: tuple[int, ...] | None
    #: Plain text of each unit, which may be empty. A character belongs to the unit that completes it.
    texts: tuple[str, ...]
    finish: Finish | None = None
    #: One for each unit. None: not requested.
    logprobs: tuple[TokenLogprobs, ...] | None = None
    #: The state before the first unit.
    head: Head = Head()
    #: Maps the offset of a unit from `start` to the operations that replace its plain text. None: all units are plain.
    marks: dict[int, tuple[Op, ...]] | None = None
    #: Set with the first unit of a prompt's first choice, if requested.
    prompt_logprobs: PromptLogprobs | None = None

    @property
    def end(self) -> int:
        return self.start + len(self.texts)

    @property
    def ids(self) -> tuple[int, ...]:
        """The token ids. Only for backends that have them."""
        assert self.token_ids is not None
        return self.token_ids

    def ops(self) -> Iterator[tuple[int, Head, Op]]:
        """Yield each operation with its unit's position and the state before it. A unit without text has none."""
        head = self.head
        for offset, text in enumerate(self.texts):
            marked = self.marks.get(offset) if self.marks else None
            if marked is None:
                if not text:
                    continue
                marked = (_OP_OF[head.kind or "text"](text),)
            for op in marked:
                yield self.start + offset, head, op
                head = head.after(op, self.start + offset)

    @property
    def head_after(self) -> Head:
        """The state after the last unit."""
        return self._head_at(len(self.texts))

    def _head_at(self, cut: int) -> Head:
        head = self.head
        if not self.marks:
            text = "".join(self.texts[:cut])
            if not text:
                return head
            if head.kind is None:
                return head.after(Text(text), self._first_text(cut))
            chars = head.chars + len(text) if head.kind == "text" else head.chars
            return Head(head.item, head.kind, head.calls, head.item_start, chars)
        for position, before, op in self.ops():
            if position - self.start >= cut:
                return before
            head = before.after(op, position)
        return head

    def _first_text(self, cut: int) -> int:
        return next(self.start + offset for offset in range(cut) if self.texts[offset])

    def text_of(self, kind: Kind) -> str:
        """Return all text of one kind in these units."""
        if not self.marks:
            return "".join(self.texts) if kind == (self.head.kind or "text") else ""
        wanted = _OP_OF[kind]
        return "".join([op.text for _, _, op in self.ops() if isinstance(op, wanted)])

    @property
    def text(self) -> str:
        """The text of the answer in these units."""
        return self.text_of("text")

    def since(self, position: int) -> ChoiceOutput:
        """Return the units from `position` on, which must not be before `start`. Empty if it is past the end."""
        assert position >= self.start
        cut = min(position, self.end) - self.start
        if not cut:
            return self
        return ChoiceOutput(
            self.index,
            self.start + cut,
            None if self.token_ids is None else self.token_ids[cut:],
            self.texts[cut:],
            self.finish,
            None if self.logprobs is None else self.logprobs[cut:],
            self._head_at(cut),
            _shifted(self.marks, cut),
        )

    def joined(self, other: ChoiceOutput) -> ChoiceOutput:
        """Return this output and `other`, which directly follows it, as one."""
        assert other.index == self.index and other.start == self.end and self.finish is None
        has_ids = self.token_ids is not None and other.token_ids is not None
        has_none = self.logprobs is None and other.logprobs is None
        marks = {**(self.marks or {}), **(_shifted(other.marks, -len(self.texts)) or {})}
        return ChoiceOutput(
            self.index,
            self.start,
            (*(self.token_ids or ()), *(other.token_ids or ())) if has_ids else None,
            self.texts + other.texts,
            other.finish,
            None if has_none else (self.logprobs or ()) + (other.logprobs or ()),
            self.head,
            marks or None,
            self.prompt_logprobs or other.prompt_logprobs,
        )


def _shifted(marks: Mapping[int, Sequence[Op]] | None, cut: int) -> dict[int, tuple[Op, ...]] | None:
    """Return the marks that are left when the first `cut` units are removed."""
    if marks is None:
        return None
    return {offset - cut: tuple(ops) for offset, ops in marks.items() if offset >= cut} or None
