"""Splitter: splits a model's text into the answer, reasoning and tool calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from shared.domain.output import Op
from shared.errors import ErrorInfo, RequestError


class Splitter(Protocol):
    """Reads the text of one choice, token by token, after the search for stop strings.

    What it returns depends only on the text and on how it is divided into tokens. So a splitter on another worker that
    reads the same tokens again continues exactly as this one.

    It holds back text that may be part of a tag, or of a call whose name is incomplete. Text that turns out to be
    neither is content. It never takes back what it returned, so it opens a call only when the name is complete.
    """

    def push(self, text: str) -> Sequence[Op]:
        """Read one token's text. Returns the operations that are certain now, in the order of the text."""

    @property
    def is_holding(self) -> bool:
        """Whether the end of the text is held back."""

    def end(self) -> Sequence[Op]:
        """End the text. Returns what was held back."""


#: Creates splitters, by name and version of the output format, such as `hermes@1`. A splitter that returns something
#: else for any text needs a new version, because a job may move to another worker within an answer.
Splitters = Mapping[str, Callable[[], Splitter]]
SPLITTERS: Splitters = MappingProxyType({})


def make_splitter(output_format: str | None, splitters: Splitters = SPLITTERS) -> Splitter | None:
    """Return a new splitter. None: all text is content. Raises RequestError for an unknown format."""
    if output_format is None:
        return None
    if output_format not in splitters:
        message = f"This worker cannot read the output format {output_format}."
        raise RequestError(ErrorInfo(message, code="unknown_output_format"))
    return splitters[output_format]()
