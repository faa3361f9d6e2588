"""Output: what a job's choices have released, unit by unit, and what each unit adds to the answer.

A unit is a token of the local engine or one piece from an upstream service. Most units add plain text. Where the
kind of output changes (reasoning begins, a tool call opens) a *mark* lists the unit's operations instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from shared.domain.prompt_logprobs import PromptLogprobs

#: What plain text belongs to. `args` is the arguments of the tool call that is open.
Kind = Literal["text", "reasoning", "refusal", "args"]

#: Operations that one position may have. Clients that number events by position rely on the limit.
MAX_OPS = 8
#: OpenAI's value for a token that is very unlikely. JSON has no infinity.
LEAST_LOGPROB = -9999.0


class _Record(msgspec.Struct, frozen=True, array_like=True):
    """Encoded as a JSON array, to keep entries short."""


class Candidate(_Record, frozen=True):
    """A token that could be drawn at some position."""

    token_id: int
    #: What it adds to the text; may end within a character.
    raw: bytes
    #: Natural logarithm of its probability under the model alone: no temperature, penalty or bias.
    logprob: float


def finite_logprob(value: float) -> float:
    """`value`, or LEAST_LOGPROB where it is smaller or not a number."""
    return value if value > LEAST_LOGPROB else LEAST_LOGPROB


class TokenLogprobs(_Record, frozen=True):
    """Log probabilities of one drawn token."""

    chosen: Candidate
    #: The most likely tokens, most likely first, equal ones by id; as many as the request asked for.
    top: tuple[Candidate, ...] = ()


class Text(_Record, frozen=True, tag="text"):
    """Text of the answer itself."""

    text: str


class Reasoning(_Record, frozen=True, tag="reasoning"):
    """Text in which the model thinks."""

    text: str


class Refusal(_Record, frozen=True, tag="refusal"):
    """Text in which the model declines."""

    text: str


class Open(_Record, frozen=True, tag="open"):
    """A tool call begins. The name is whole."""

    name: str
    #: The call's id where the backend gives one; otherwise the dialect makes it from the job and the call's index.
    id: str | None = None


class Args(_Record, frozen=True, tag="args"):
    """Text of the open tool call's arguments."""

    text: str


class Close(_Record, frozen=True, tag="close"):
    """The open item ends here."""


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
    """Where a choice's output stands at one position: the state from which an encoder can start there."""

    #: Index of the open item, or of the next one where none is open.
    item: int = 0
    #: What plain text adds to; None: no item is open, and plain text opens one of the kind `text`.
    kind: Kind | None = None
    #: Tool calls that have opened so far.
    calls: int = 0
    #: Position at which the open item began.
    item_start: int = 0
    #: Characters of text so far, of all items of the kind `text`.
    chars: int = 0

    def after(self, op: Op, position: int) -> Head:
        """The state once `op`, which is one of the unit at `position`, was applied."""
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

    #: `stop`, `length`, `tool_calls`, `content_filter` or a word of an upstream service.
    reason: str
    #: The stop string or stop token id that ended it; None where it ended by itself.
    matched: str | int | None = None


class ChoiceOutput(_Record, frozen=True):
    """Consecutive released units of one choice. It can be cut at any unit."""

    index: int
    #: Position of the first unit: how many units of this choice came before.
    start: int
    #: Ids, as many as `texts`; None: the backend has no token ids.
    token_ids: tuple[int, ...] | None
    #: Plain text per unit. A unit may have none; a character belongs to its last unit.
    texts: tuple[str, ...]
    finish: Finish | None = None
    #: Per unit, as many as `texts`; None: not asked for.
    logprobs: tuple[TokenLogprobs, ...] | None = None
    #: The state before the first unit.
    head: Head = Head()
    #: Offset from `start` to the operations that replace that unit's plain text; None: all units are plain.
    marks: dict[int, tuple[Op, ...]] | None = None
    #: With the first unit of a prompt's first choice, where asked for.
    prompt_logprobs: PromptLogprobs | None = None

    @property
    def end(self) -> int:
        return self.start + len(self.texts)

    @property
    def ids(self) -> tuple[int, ...]:
        """The token ids, of a backend that has them."""
        assert self.token_ids is not None
        return self.token_ids

    def ops(self) -> Iterator[tuple[int, Head, Op]]:
        """Each operation with its unit's position and the state before it. Units without text have none."""
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
        """The state behind the last unit."""
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
        """All text of one kind in these units."""
        if not self.marks:
            return "".join(self.texts) if kind == (self.head.kind or "text") else ""
        wanted = _OP_OF[kind]
        return "".join([op.text for _, _, op in self.ops() if isinstance(op, wanted)])

    @property
    def text(self) -> str:
        """The text of the answer in these units."""
        return self.text_of("text")

    def since(self, position: int) -> ChoiceOutput:
        """The part from `position` on (which is not before `start`); empty when it lies behind the end."""
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
        """This and what directly follows it, as one."""
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
    """The marks of what is left when the first `cut` units are gone."""
    if marks is None:
        return None
    return {offset - cut: tuple(ops) for offset, ops in marks.items() if offset >= cut} or None
