"""Contestant: what can be measured, and what one measurement of it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bench.peers.process_group import ProcessGroup
from bench.peers.weights.prompts import Chat
from cli.bench.load import Bounds
from cli.bench.sample import Sample


class Contestant(Protocol):
    """Started and stopped once a round, and pressed at several levels in between."""

    name: str
    #: What was measured, with its version.
    version: str

    def start(self, chat: Chat) -> float:
        """Seconds from the start of its processes to the first token of an answer to `chat`.

        Raises PeerUnavailable when there is none.
        """

    def answer(self, chats: Sequence[Chat], num_tokens: int, streams: int, bounds: Bounds) -> list[Sample]:
        """Answers of `num_tokens` to as many chats as the bounds allow, `streams` of them at once."""

    @property
    def group(self) -> ProcessGroup:
        """While it runs."""

    def stop(self) -> None:
        """Also after a start that failed, or none."""
