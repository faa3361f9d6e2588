"""Events: the entries of a job's stream. Readers learn about a job only through these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import msgspec

from shared.domain.output import ChoiceOutput
from shared.domain.usage import Usage
from shared.errors import DecodeError, ErrorInfo


class _Event(msgspec.Struct, frozen=True, tag_field="type", tag=str.lower):
    """Encoded as a JSON object whose `type` is the class's name. Unknown fields of a newer version are ignored."""


class Queued(_Event, frozen=True):
    """The job was accepted."""


class Started(_Event, frozen=True):
    """A worker took the job for the first time."""

    worker: str


class Resumed(_Event, frozen=True):
    """A worker continues a job that was started before. `attempt` counts from 1."""

    worker: str
    attempt: int
    #: Whether the rest is token for token what the previous workers would have generated.
    exact: bool = False


class Requeued(_Event, frozen=True):
    """The job is queued again. It keeps all released output."""

    #: `drain`, `preempted`, `worker_died`, `given_back`, `paused`, or a value of a newer version.
    reason: str


class Output(_Event, frozen=True):
    """Released units of one or more choices."""

    choices: tuple[ChoiceOutput, ...]


class Completed(_Event, frozen=True):
    """Every choice ended, none of them at its token limit."""


class Incomplete(_Event, frozen=True):
    """Every choice ended, at least one of them at its token limit."""


class Failed(_Event, frozen=True):
    """The job cannot be finished."""

    error: ErrorInfo


class Cancelled(_Event, frozen=True):
    """The job was cancelled before it finished."""

    #: `client`, `deadline`, `reader_gone`, or a value of a newer version.
    reason: str


class Expired(_Event, frozen=True):
    """The job was not started in time."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """An event of a newer version. Readers skip it."""

    kind: str


TerminalEvent = Completed | Incomplete | Failed | Cancelled | Expired
LifeCycleEvent = Queued | Started | Resumed | Requeued
Event = LifeCycleEvent | Output | TerminalEvent | Unknown
_Known = (
    Queued | Started | Resumed | Requeued | Output | Completed | Incomplete | Failed | Cancelled | Expired
)
_TYPES = frozenset(kind.__name__.lower() for kind in get_args(_Known))


class _Typed(msgspec.Struct):
    type: str


_ENCODER = msgspec.json.Encoder()
_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Known)
_TYPE_DECODER = msgspec.json.Decoder(_Typed)


@dataclass(frozen=True, slots=True)
class Entry:
    """An event in a job's stream."""

    #: Stream id `<fence>-<n>`.
    id: str
    #: For each choice, the number of units released up to and including this event.
    end: tuple[int, ...]
    event: Event
    #: Tokens used up to and including this event.
    used: Usage = Usage()

    @property
    def is_terminal(self) -> bool:
        return isinstance(self.event, get_args(TerminalEvent))


def event_type(event: Event) -> str:
    """Return the event's name, as in its JSON and in `event: job.<name>`."""
    return event.kind if isinstance(event, Unknown) else type(event).__name__.lower()


def encode_event(event: Event) -> str:
    """Return compact JSON. The Lua scripts write their events in the same form."""
    return _ENCODER.encode(event).decode()


def decode_event(raw: str | bytes | msgspec.Raw) -> Event:
    """The inverse of `encode_event`. Returns Unknown for an event of a newer version.

    Raises DecodeError, also for an Output with an operation of a newer version, because text would be lost.
    """
    try:
        event: Event = _DECODER.decode(raw)
        return event
    except (msgspec.DecodeError, UnicodeError) as error:
        return _unknown(raw, error)


def _unknown(raw: str | bytes | msgspec.Raw, cause: Exception) -> Unknown:
    try:
        kind = _TYPE_DECODER.decode(raw).type
    except (msgspec.DecodeError, UnicodeError) as error:
        raise DecodeError("event", raw) from error
    if kind in _TYPES:
        raise DecodeError("event", raw) from cause
    return Unknown(kind)


def encode_positions(positions: tuple[int, ...]) -> str:
    """Return positions in the form that the scripts compare: `12,7`."""
    return ",".join(map(str, positions))


def decode_positions(raw: str) -> tuple[int, ...]:
    """The inverse of `encode_positions`. Raises DecodeError."""
    try:
        return tuple([int(part) for part in raw.split(",")])
    except ValueError as error:
        raise DecodeError("positions", raw) from error


def decode_entry(stream_id: str, fields: Mapping[str, str]) -> Entry:
    """Decode an entry of the stream `job:<id>:events`. Raises DecodeError."""
    try:
        event = decode_event(fields["e"])
        return Entry(stream_id, decode_positions(fields["end"]), event, Usage.decode(fields.get("used", "")))
    except KeyError as error:
        raise DecodeError("stream entry", fields) from error
