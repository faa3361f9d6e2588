"""Dialect: one public API's way to ask for a job, to stream its output and to show the whole answer.

A job names its dialect by its endpoint. Routes, the stored job and the stream know nothing of a dialect's formats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import msgspec

from api.streaming.cursor import Cursor
from api.streaming.updates import Update
from shared.domain.job import Job
from shared.domain.request import GenerationRequest
from shared.domain.result import Result
from shared.errors import ErrorInfo

#: A dialect's own options of showing a job, such as `include_usage`: a JSON object that the job stores.
View = Mapping[str, Any]


class JobInfo(NamedTuple):
    """What every answer says about its job. It never changes, so all replicas say the same."""

    job_id: str
    endpoint: str
    model: str
    #: Seconds since the epoch, by Redis's clock.
    created: int
    #: Choices, over all prompts.
    n: int

    @classmethod
    def of(cls, job: Job) -> JobInfo:
        return cls(job.id, job.endpoint, job.model, int(job.created_at), job.n)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A request's body, read."""

    model: str
    request: GenerationRequest
    view: View = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    is_streamed: bool = False
    #: Paths of fields that no API we speak knows, such as `messages[0].foo`.
    ignored: tuple[str, ...] = ()


class Block(msgspec.Struct, frozen=True, gc=False):
    """One event on its way to a client: an SSE block, a WebSocket frame or an item of a poll's answer."""

    #: One line; JSON in most cases.
    data: str
    #: The encoded cursor behind this event.
    id: str
    #: The event's name, where the dialect names events.
    event: str | None = None


class ItemReader(Protocol):
    """Reads released output from the job's stream, for dialects that repeat an item's text when it closes."""

    async def text(self, choice: int, item: int, start: int, end: int) -> str:
        """Text of an item that began at position `start` and has units before position `end`."""
        ...


class Encoder(Protocol):
    """Turns updates of one job into events for one client.

    Its state is a function of the cursor at which it starts and of the updates since: it can start at any cursor, on
    any replica. It holds no text.
    """

    async def encode(self, updates: Sequence[Update]) -> list[Block]:
        """The events for these updates; empty when there is nothing to say. Raises what reading items raises."""
        ...

    def error(self, info: ErrorInfo, cursor: Cursor) -> Block:
        """The last event of a stream that cannot be continued."""
        ...


class StreamDialect(Protocol):
    """How a dialect streams a job."""

    def encoder(self, job: JobInfo, view: View, start: Cursor, items: ItemReader) -> Encoder:
        """An encoder for a reader who stands at `start`."""
        ...


class Dialect(StreamDialect, Protocol):
    """All of a dialect. Implementations have no state."""

    #: The path of the dialect's POST route, stored in its jobs.
    endpoint: str

    def parse(self, fields: dict[str, Any], *, prefix: str = "") -> Parsed:
        """Read a body. Errors name parameters with `prefix` before them. Raises RequestError (400)."""
        ...

    def whole(self, job: JobInfo, view: View, result: Result) -> dict[str, Any]:
        """The complete answer of a job that ended by itself."""
        ...

    def error(self, info: ErrorInfo) -> dict[str, Any]:
        """The body of an error's response."""
        ...

    def object_id(self, job_id: str) -> str:
        """The id under which the dialect's clients know the job."""
        ...

    def job_id(self, object_id: str) -> str | None:
        """The inverse of `object_id`; None for an id of another form."""
        ...
