"""The interface of what can be measured: a server, or a bare loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bench.peers.process_group import ProcessGroup
from bench.peers.weights.prompts import Chat
from cli.bench.load import Bounds
from cli.bench.sample import Sample


class Contestant(Protocol):
    """Is started and stopped once per round, and measured at several numbers of streams in between."""

    name: str
    #: The software and its version.
    version: str

    def start(self, chat: Chat) -> float:
        """Returns the seconds from the start of its processes to the first token of an answer to `chat`.

        Raises PeerUnavailable if there is no answer.
        """

    def answer(self, chats: Sequence[Chat], num_tokens: int, streams: int, bounds: Bounds) -> list[Sample]:
        """Answers as many chats as the bounds allow with `num_tokens` each, `streams` of them at once."""

    @property
    def group(self) -> ProcessGroup:
        """Its processes while it runs."""

    def stop(self) -> None:
        """Stops it. May also be called after a failed start, or without a start."""
