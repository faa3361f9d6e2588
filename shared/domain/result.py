"""Result: the complete output of a job, independent of the API dialect."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from shared.domain.output import (
    Args,
    ChoiceOutput,
    Close,
    Data,
    Finish,
    Kind,
    Open,
    Reasoning,
    Refusal,
    Text,
    TokenLogprobs,
)
from shared.domain.prompt_logprobs import PromptLogprobs
from shared.domain.usage import Usage
from shared.errors import DecodeError

#: Maximum size of a stored result. A larger result is read from the job's stream.
MAX_STORED_BYTES = 1_048_576


class Item(msgspec.Struct):
    """One item of a choice's output: text, reasoning, a refusal, or a tool call."""

    #: `args` is a tool call.
    kind: Kind
    #: The text, or a tool call's arguments.
    text: str = ""
    #: Only for a tool call.
    name: str | None = None
    id: str | None = None
    #: Opaque data by name.
    data: dict[str, str] = {}
    #: Position at which the item began.
    start: int = 0


class ChoiceResult(msgspec.Struct):
    """One choice."""

    items: list[Item] = []
    #: Units released.
    position: int = 0
    finish: Finish | None = None
    #: None: not requested.
    logprobs: list[TokenLogprobs] | None = None
    #: Ids of all units. None: the backend has no token ids.
    token_ids: list[int] | None = None
    #: None: not requested.
    prompt_logprobs: PromptLogprobs | None = None

    def text_of(self, kind: Kind) -> str:
        return "".join([item.text for item in self.items if item.kind == kind])

    @property
    def text(self) -> str:
        return self.text_of("text")


class Result(msgspec.Struct):
    """The output that a job has released so far. Complete once the job has ended."""

    choices: list[ChoiceResult]
    used: Usage = Usage()

    @classmethod
    def empty(cls, num_choices: int) -> Result:
        return cls([ChoiceResult() for _ in range(num_choices)])

    def take(self, outputs: Iterable[ChoiceOutput]) -> None:
        """Add the outputs that directly follow."""
        for output in outputs:
            _take(self.choices[output.index], output)

    def encode(self) -> bytes:
        return _ENCODER.encode(self)

    @classmethod
    def decode(cls, raw: str | bytes) -> Result:
        """The inverse of `encode`. Raises DecodeError."""
        try:
            return _DECODER.decode(raw)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise DecodeError("result", raw) from error


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Result)


def _take(choice: ChoiceResult, output: ChoiceOutput) -> None:
    assert output.start == choice.position and choice.finish is None
    if output.marks:
        _take_ops(choice, output)
    elif text := "".join(output.texts):
        begin = output.start + next(offset for offset, each in enumerate(output.texts) if each)
        _add(choice, output.head.kind or "text", text, begin, is_new=output.head.kind is None)
    choice.position = output.end
    choice.finish = output.finish
    if output.logprobs is not None:
        if choice.logprobs is None:
            choice.logprobs = []
        choice.logprobs += output.logprobs
    if output.token_ids is not None:
        if choice.token_ids is None:
            choice.token_ids = []
        choice.token_ids += output.token_ids
    choice.prompt_logprobs = choice.prompt_logprobs or output.prompt_logprobs


def _take_ops(choice: ChoiceResult, output: ChoiceOutput) -> None:
    for position, head, op in output.ops():
        match op:
            case Text(text):
                _add(choice, "text", text, position, is_new=head.kind != "text")
            case Reasoning(text):
                _add(choice, "reasoning", text, position, is_new=head.kind != "reasoning")
            case Refusal(text):
                _add(choice, "refusal", text, position, is_new=head.kind != "refusal")
            case Args(text):
                _add(choice, "args", text, position, is_new=head.kind != "args")
            case Open(name, id_):
                choice.items.append(Item("args", name=name, id=id_, start=position))
            case Data(name, value):
                if choice.items:
                    item = choice.items[-1]
                    item.data = {**item.data, name: item.data.get(name, "") + value}
            case Close():
                pass


def _add(choice: ChoiceResult, kind: Kind, text: str, position: int, *, is_new: bool) -> None:
    if is_new or not choice.items:
        choice.items.append(Item(kind, start=position))
    choice.items[-1].text += text
