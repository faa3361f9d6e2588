"""Cursor: how far a reader has come in a job's events. The `id` of every event that is sent, opaque to clients."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from shared.errors import BatonError, RequestError, invalid_request

Stage = Literal["nothing", "begun", "finished"]
Ending = Literal["open", "usage", "over"]

_STAGES: dict[str, Stage] = {"n": "nothing", "b": "begun", "f": "finished"}
_STAGE_LETTERS = {stage: letter for letter, stage in _STAGES.items()}
_ENDINGS: dict[str, Ending] = {"o": "open", "u": "usage", "x": "over"}
_ENDING_LETTERS = {ending: letter for letter, ending in _ENDINGS.items()}

_NUMBER = r"(?:0|[1-9][0-9]{0,9})"
_FORM = re.compile(
    rf"1\.([A-Za-z0-9]{{8}})\.({_NUMBER})\.([oux])((?:\.{_NUMBER}[nbf]){{1,64}})(?:\.s([1-9][0-9]?))?"
)
#: No cursor is longer; a longer text is not even looked at.
_MAX_LENGTH = 1024


class InvalidCursor(BatonError):
    """Raised when a text is not a cursor of this job."""


def invalid_event_id(why: str) -> RequestError:
    return invalid_request(f"Invalid event id: {why}.", param="Last-Event-ID", code="invalid_event_id")


def behind_the_end() -> RequestError:
    """For a cursor that no event of its job can reach."""
    return invalid_event_id("it lies behind the end of this job's events")


class ChoiceCursor(NamedTuple):
    """How far a reader has come in one choice."""

    #: Units read.
    position: int = 0
    #: `begun`: output of the job has begun, of this choice or another one; `finished`: so was the finish reason.
    stage: Stage = "nothing"


class Cursor(NamedTuple):
    """A point between two events. It consists of positions, not of stream ids, so it is valid on every replica, after
    a job has changed hands, however events were joined, and when Redis has lost the end of its file."""

    #: The first letters of the job's id: a cursor of another job is refused.
    check: str
    #: Fence of the last life-cycle event that was read (queued has 1); 0: none.
    marker: int
    choices: tuple[ChoiceCursor, ...]
    #: `usage`: the usage chunk was sent; `over`: so was the end itself.
    ending: Ending = "open"
    #: Events of the next unit that were sent. Only dialects with one choice write several events for one unit.
    num_sent: int = 0

    @classmethod
    def start(cls, job_id: str, n: int) -> Cursor:
        """Before everything, for a job of `n` choices."""
        return cls(_check(job_id), 0, (ChoiceCursor(),) * n)

    def encode(self) -> str:
        """As it stands in `id:`: letters, digits and points."""
        check, marker, choices, ending, num_sent = self
        if len(choices) == 1:  # once for each token and client
            position, stage = choices[0]
            shown = f"{position}{_STAGE_LETTERS[stage]}"
        else:
            shown = ".".join([f"{position}{_STAGE_LETTERS[stage]}" for position, stage in choices])
        sent = f".s{num_sent}" if num_sent else ""
        return f"1.{check}.{marker}.{_ENDING_LETTERS[ending]}.{shown}{sent}"

    @classmethod
    def decode(cls, text: str, job_id: str, n: int | None = None) -> Cursor:
        """The inverse of `encode`, for a job of `n` choices. Raises InvalidCursor."""
        match = _FORM.fullmatch(text) if len(text) <= _MAX_LENGTH else None
        if match is None or match[1] != _check(job_id):
            raise InvalidCursor(f"not an event id of {job_id}")
        choices = tuple(ChoiceCursor(int(part[:-1]), _STAGES[part[-1]]) for part in match[4].split(".")[1:])
        if n is not None and len(choices) != n:
            raise InvalidCursor(f"not an event id of {job_id}")
        if any(choice.stage == "nothing" and choice.position for choice in choices):
            raise InvalidCursor(f"not an event id of {job_id}")
        return cls(match[1], int(match[2]), choices, _ENDINGS[match[3]], int(match[5] or 0))

    def with_choice(self, index: int, choice: ChoiceCursor) -> Cursor:
        """The same point, except for one choice."""
        choices = self.choices
        changed = (choice,) if len(choices) == 1 else (*choices[:index], choice, *choices[index + 1 :])
        return Cursor(self.check, self.marker, changed, self.ending)

    @property
    def has_begun(self) -> bool:
        """Whether the reader knows that output has begun."""
        return all(choice.stage != "nothing" for choice in self.choices)

    def begun(self) -> Cursor:
        """The same point, once output has begun."""
        choices = [
            ChoiceCursor(position, "begun" if stage == "nothing" else stage)
            for position, stage in self.choices
        ]
        return self._replace(choices=tuple(choices))

    def is_ahead_of(self, end: Sequence[int]) -> bool:
        """Whether the reader has more of a choice than was released, as after Redis was set back."""
        return any(map(int.__gt__, self.positions, end))

    @property
    def positions(self) -> tuple[int, ...]:
        """Units read, per choice."""
        return tuple([choice.position for choice in self.choices])


def _check(job_id: str) -> str:
    return job_id[4:12]
