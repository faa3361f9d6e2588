"""History: what one client asked for and what it was told, in the order in which it heard it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["streamed", "events", "polled", "whole", "waited", "cancelled", "abandoned", "late"]
What = Literal["output", "finish", "usage", "end", "lost"]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. Its answer is a function of seed, choice and position, up to a length."""

    kind: Kind
    seed: int
    #: Tokens after which the scripted engine ends by itself.
    length: int
    max_tokens: int
    n: int = 1
    #: A string that ends the answer, drawn from the answer itself.
    stop: str | None = None
    #: When a cancelling or leaving client does so: after so many tokens.
    leaves_after: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """One thing that a client was told. Positions are those that it believes in after its last event."""

    what: What
    choice: int = 0
    #: Positions before and after the text.
    start: int = 0
    end: int = 0
    text: str = ""
    #: Of a finish its reason, of an end the name of the terminal event, or why it is taken for lost.
    detail: str = ""
    completion_tokens: int = 0
    #: On the monotonic clock.
    at: float = 0.0


@dataclass
class History:
    """One client's story."""

    ask: Ask
    asked_at: float
    job_id: str | None = None
    heard: list[Heard] = field(default_factory=list)
    #: The replica that it reads from, and since when.
    reads_from: str = ""
    #: When its job was accepted, as far as it knows.
    accepted_at: float | None = None
    #: How often its reading was cut and taken up again.
    num_resumed: int = 0
    #: Answers of "not now", and those of them that did not say when.
    num_refused: int = 0
    num_without_retry_after: int = 0
    is_hung: bool = False
    #: It left by itself, and expects no end.
    has_left: bool = False
    #: Redis was set back while it ran: it may be gone, or go on after an end that was told.
    is_excused: bool = False
    #: Jobs that its key made after the first: only where Redis has lost that one.
    other_jobs: list[str] = field(default_factory=list)
    #: Answers that no fault explains.
    complaints: list[str] = field(default_factory=list)

    @property
    def job_ids(self) -> set[str]:
        return {job_id for job_id in (self.job_id, *self.other_jobs) if job_id is not None}

    @property
    def num_tokens(self) -> int:
        return sum(heard.end - heard.start for heard in self.heard if heard.what == "output")

    @property
    def is_told_end(self) -> bool:
        return any(heard.what == "end" for heard in self.heard)

    @property
    def is_lost(self) -> bool:
        return any(heard.what == "lost" for heard in self.heard)


@dataclass(frozen=True, slots=True)
class Final:
    """What the store says of a job when everything is over: its stream from the first event to the last."""

    job_id: str
    status: str
    #: Names of all terminal events in the stream, in order.
    ends: tuple[str, ...]
    #: Whether the last event is a terminal one.
    is_ended_last: bool
    #: Text per token and choice.
    texts: tuple[tuple[str, ...], ...]
    finishes: tuple[str | None, ...]
    #: Per choice: whether each output began where the one before it ended.
    is_joined: bool
    completion_tokens: int
    attempts: int
    reason: str | None = None
    #: Per choice, as `texts`.
    token_ids: tuple[tuple[int, ...], ...] = ()
