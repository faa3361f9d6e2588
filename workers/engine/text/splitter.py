"""Splitter: splits a model's text into the answer, reasoning and tool calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from shared.domain.output import Op
from shared.errors import ErrorInfo, RequestError


class Splitter(Protocol):
    """Reads the text of one choice, token by token, before any other processing than stop strings.

    What it returns is a function of the text and of how tokens divide it, so that a splitter that reads the same
    tokens anew, on another worker, goes on as this one would.

    It holds back text that may turn out to be part of a tag or of a call whose name is incomplete. Text that turns
    out to be neither is content. Nothing that was returned is taken back: a call is opened once its name is whole.
    """

    def push(self, text: str) -> Sequence[Op]:
        """Read one token's text. Returns what became certain through it, in the order of the text."""

    @property
    def is_holding(self) -> bool:
        """Whether the end of the text is held back."""

    def end(self) -> Sequence[Op]:
        """The text ends here. Returns what was held back."""


#: Makes splitters, by the name and version of the output format: `hermes@1`. A change of what a format's splitter
#: returns for any text takes a new version, because jobs may change workers within an answer.
Splitters = Mapping[str, Callable[[], Splitter]]
SPLITTERS: Splitters = MappingProxyType({})


def make_splitter(output_format: str | None, splitters: Splitters = SPLITTERS) -> Splitter | None:
    """None: all text is content. Raises RequestError for a format that this worker does not know."""
    if output_format is None:
        return None
    if output_format not in splitters:
        message = f"This worker cannot read the output format {output_format}."
        raise RequestError(ErrorInfo(message, code="unknown_output_format"))
    return splitters[output_format]()
