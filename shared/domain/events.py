"""Events: what a job's stream is made of. Readers learn of a job through these and nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as quote
from typing import Any, Literal, get_args

from shared.domain.prompt_logprobs import PromptLogprobs
from shared.errors import DecodeError, ErrorInfo

FinishReason = Literal["stop", "length"]
CancelReason = Literal["client", "deadline", "reader_gone"]
RequeueReason = Literal["drain", "preempted", "worker_died", "given_back"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that could be drawn at some position."""

    token_id: int
    #: What it adds to the text, which need not be whole characters.
    raw: bytes
    #: Natural logarithm of its probability under the model alone: no temperature, penalty or bias.
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """What a reader who asked for `logprobs` is told of one token."""

    chosen: Candidate
    #: The likeliest ones, from the likeliest down, equal ones by id; as many as were asked for.
    top: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class ChoiceOutput:
    """Consecutive final tokens of one choice, with the text of each, so that it can be cut anywhere."""

    index: int
    #: Position of the first token: how many tokens of this choice came before.
    start: int
    token_ids: tuple[int, ...]
    #: Text per token, as many as token_ids. A token may have none; a character belongs to its last token.
    texts: tuple[str, ...]
    finish: FinishReason | None = None
    #: Per token, as many as token_ids; None where they were not asked for.
    logprobs: tuple[TokenLogprobs, ...] | None = None
    #: With the first choice's first token, where they were asked for.
    prompt_logprobs: PromptLogprobs | None = None

    @property
    def end(self) -> int:
        return self.start + len(self.token_ids)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def since(self, position: int) -> ChoiceOutput:
        """The part from `position` on (which is not before `start`); empty when it lies behind the end."""
        assert position >= self.start
        cut = min(position, self.end) - self.start
        return ChoiceOutput(
            self.index,
            self.start + cut,
            self.token_ids[cut:],
            self.texts[cut:],
            self.finish,
            None if self.logprobs is None else self.logprobs[cut:],
            None if cut else self.prompt_logprobs,
        )

    def joined(self, other: ChoiceOutput) -> ChoiceOutput:
        """This and what directly follows it, as one."""
        assert other.index == self.index and other.start == self.end and self.finish is None
        has_none = self.logprobs is None and other.logprobs is None
        return ChoiceOutput(
            self.index,
            self.start,
            self.token_ids + other.token_ids,
            self.texts + other.texts,
            other.finish,
            None if has_none else (self.logprobs or ()) + (other.logprobs or ()),
            self.prompt_logprobs or other.prompt_logprobs,
        )


@dataclass(frozen=True, slots=True)
class Queued:
    """The job was accepted."""


@dataclass(frozen=True, slots=True)
class Started:
    """A worker took the job for the first time."""

    worker: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """Another worker, or the same one again, goes on with the job; `attempt` counts from 1."""

    worker: str
    attempt: int
    #: Whether the rest will be, token by token, what the workers before would have made of it.
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Requeued:
    """The job waits again, with all that it has released."""

    reason: RequeueReason


@dataclass(frozen=True, slots=True)
class Output:
    """Final tokens of one or more choices."""

    choices: tuple[ChoiceOutput, ...]


@dataclass(frozen=True, slots=True)
class Completed:
    """Every choice ended by itself."""

    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Incomplete:
    """Every choice ended, at least one of them at its token limit."""

    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The job cannot be finished."""

    error: ErrorInfo
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The job was ended before its time."""

    reason: CancelReason
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Expired:
    """The job was not started in time."""


TerminalEvent = Completed | Incomplete | Failed | Cancelled | Expired
Event = Queued | Started | Resumed | Requeued | Output | TerminalEvent
EventType = Literal[
    "queued", "started", "resumed", "requeued", "output",
    "completed", "incomplete", "failed", "cancelled", "expired",
]  # fmt: skip

_PLAIN: dict[str, Any] = {
    kind.__name__.lower(): kind
    for kind in (Queued, Started, Resumed, Requeued, Completed, Incomplete, Cancelled, Expired)
}


@dataclass(frozen=True, slots=True)
class Entry:
    """An event at its place in a job's stream."""

    #: Stream id `<fence>-<n>`.
    id: str
    #: Per choice, how many tokens have been released up to and including this event.
    end: tuple[int, ...]
    event: Event

    @property
    def is_terminal(self) -> bool:
        return isinstance(self.event, get_args(TerminalEvent))

    @property
    def completion_tokens(self) -> int:
        return sum(self.end)


def event_type(event: Event) -> EventType:
    """The event's name, as in its JSON and in `event: job.<name>`."""
    return type(event).__name__.lower()  # type: ignore[return-value]  # the class names are the literals


def encode_event(event: Event) -> str:
    """Compact JSON. The scripts write the same form for the events that they make."""
    if isinstance(event, Output):
        return f'{{"type":"output","choices":[{",".join(map(_encode_choice, event.choices))}]}}'
    return _compact({"type": event_type(event), **_fields(event)})


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _fields(event: Event) -> dict[str, Any]:
    if isinstance(event, Failed):
        error = {**event.error.to_json(), "status": event.error.status}
        return {"error": error, "prompt_tokens": event.prompt_tokens}
    return {name: getattr(event, name) for name in event.__slots__}


def _encode_choice(choice: ChoiceOutput) -> str:
    """For every token once: put together from parts, in a fifth of json's time. Logprobs go along only where
    they were asked for."""
    token_ids, texts = ",".join(map(str, choice.token_ids)), ",".join(map(quote, choice.texts))
    finish = "null" if choice.finish is None else quote(choice.finish)
    fields = [f"{choice.index},{choice.start},[{token_ids}],[{texts}],{finish}"]
    if choice.logprobs is not None:
        fields.append(_compact([_encode_logprobs(one) for one in choice.logprobs]))
    elif choice.prompt_logprobs is not None:
        fields.append("null")
    if choice.prompt_logprobs is not None:
        fields.append(_compact(choice.prompt_logprobs.to_json()))
    return f"[{','.join(fields)}]"


def _encode_logprobs(told: TokenLogprobs) -> list[tuple[int, str, float]]:
    return [_encode_candidate(each) for each in (told.chosen, *told.top)]


def _encode_candidate(candidate: Candidate) -> tuple[int, str, float]:
    return candidate.token_id, candidate.raw.decode("latin-1"), candidate.logprob


def decode_event(raw: str) -> Event:
    """The inverse of `encode_event`. Raises DecodeError."""
    try:
        return read_event(json.loads(raw))
    except (ValueError, DecodeError) as error:
        raise DecodeError("event", raw) from error


def read_event(fields: dict[str, Any]) -> Event:
    """The same, of JSON that was parsed already (`fields` is used up). Raises DecodeError."""
    try:
        kind = fields.pop("type")
        if kind == "output":
            return Output(tuple([_decode_choice(*choice) for choice in fields["choices"]]))
        # What a later version tells besides is not for this one.
        if kind == "failed":
            error = {name: fields["error"][name] for name in ErrorInfo.__slots__ if name in fields["error"]}
            return Failed(ErrorInfo(**error), fields.get("prompt_tokens", 0))
        plain = _PLAIN[kind]
        event: Event = plain(**{name: value for name, value in fields.items() if name in plain.__slots__})
        return event
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DecodeError("event", fields) from error


def _decode_choice(
    index: int,
    start: int,
    token_ids: list[int],
    texts: list[str],
    finish: FinishReason | None,
    logprobs: list[list[tuple[int, str, float]]] | None = None,
    prompt_logprobs: dict[str, Any] | None = None,
    *_: object,
) -> ChoiceOutput:
    told = None if logprobs is None else tuple([_decode_logprobs(*candidates) for candidates in logprobs])
    prompt = None if prompt_logprobs is None else PromptLogprobs.from_json(prompt_logprobs)
    return ChoiceOutput(index, start, tuple(token_ids), tuple(texts), finish, told, prompt)


def _decode_logprobs(*candidates: tuple[int, str, float]) -> TokenLogprobs:
    chosen, *top = [
        Candidate(token_id, raw.encode("latin-1"), value) for token_id, raw, value, *_ in candidates
    ]
    return TokenLogprobs(chosen, tuple(top))


def encode_positions(positions: tuple[int, ...]) -> str:
    """Positions as the scripts compare them: `12,7`."""
    return ",".join(map(str, positions))


def decode_positions(raw: str) -> tuple[int, ...]:
    """The inverse of `encode_positions`. Raises DecodeError."""
    try:
        return tuple([int(part) for part in raw.split(",")])
    except ValueError as error:
        raise DecodeError("positions", raw) from error


def decode_entry(stream_id: str, fields: dict[str, str]) -> Entry:
    """An entry of `job:<id>:events`. Raises DecodeError."""
    try:
        return Entry(stream_id, decode_positions(fields["end"]), decode_event(fields["e"]))
    except KeyError as error:
        raise DecodeError("stream entry", fields) from error
