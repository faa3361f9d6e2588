"""Job: one accepted, durable request, and what is stored with it."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from shared.domain.request import GenerationRequest
from shared.domain.request_key import RequestKey
from shared.domain.usage import Usage
from shared.errors import DecodeError, ErrorInfo

JobStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled", "expired"]
TERMINAL_STATUSES: frozenset[str] = frozenset({"completed", "incomplete", "failed", "cancelled", "expired"})
Priority = Literal["high", "normal", "low"]
CancelReason = Literal["client", "deadline", "reader_gone"]
RequeueReason = Literal["drain", "preempted", "worker_died", "given_back", "paused"]
#: What becomes of a job when its last reader disconnects: it pauses until one comes back, it runs on, or it is
#: cancelled at once.
OnDisconnect = Literal["pause", "continue", "abort"]
DeadlineKind = Literal["expires", "cancel", "paused", "retention"]
#: The API through which a job was asked for; it chooses the dialect in which the job is shown.
Endpoint = Literal["/v1/chat/completions"]

#: What a job's id begins with; dialects give their objects ids with prefixes of their own.
JOB_PREFIX = "job_"
_ID_ALPHABET = string.ascii_letters + string.digits
_ID_LENGTH = 24


def new_job_id() -> str:
    """`job_` and 24 random letters and digits (143 bits)."""
    return JOB_PREFIX + "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))


def is_job_id(text: str) -> bool:
    """Whether `text` has the form of an id. No Redis key is made of anything else."""
    return (
        text.startswith(JOB_PREFIX)
        and len(text) == 4 + _ID_LENGTH
        and all(c in _ID_ALPHABET for c in text[4:])
    )


@dataclass(frozen=True, slots=True)
class NewJob:
    """What `JobStore.create` writes. Durations are seconds from the moment of creation."""

    id: str
    model: str
    #: Id of the principal that owns the job.
    owner: str
    request: GenerationRequest
    endpoint: str = "/v1/chat/completions"
    #: What the endpoint's dialect wants to know when it shows the job, such as `include_usage`.
    view: Mapping[str, Any] = field(default_factory=dict)
    priority: Priority = "normal"
    on_disconnect: OnDisconnect = "continue"
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: Not started within this: `expired`.
    expires_after_s: float | None = None
    #: Not ended within this: `cancelled` with the reason `deadline`.
    cancel_after_s: float | None = None
    #: With `on_disconnect: pause`: paused for this long, `cancelled` with the reason `reader_gone`.
    reader_grace_s: float = 300.0
    #: How long the job is kept after its end.
    retention_s: float = 86_400.0
    #: The job whose request this one repeats.
    retry_of: str | None = None
    #: Under this a client may repeat the request and gets the same job.
    key: RequestKey | None = None

    def bulk(self) -> dict[str, str]:
        """What may be long. It is stored apart from the record, which Redis keeps compact while all of its values
        are short, and which lists read alone."""
        return {
            "request": self.request.encode(),
            "view": _compact(dict(self.view)),
            "metadata": _compact(dict(self.metadata)),
        }

    def record(self) -> dict[str, str | int]:
        """The fields that the hash `job:<id>` takes over as they are."""
        times = {"expires_after_ms": self.expires_after_s, "cancel_after_ms": self.cancel_after_s}
        return {
            "endpoint": self.endpoint,
            "needs": self.request.needs,
            "n": self.request.num_choices,
            "priority": self.priority,
            "on_disconnect": self.on_disconnect,
            "grace_ms": round(self.reader_grace_s * 1000),
            **{name: round(after * 1000) for name, after in times.items() if after is not None},
            **({} if self.retry_of is None else {"retry_of": self.retry_of}),
        }


class Accepted(NamedTuple):
    """`JobStore.create`'s answer."""

    job_id: str
    #: Seconds since the epoch, by Redis's clock.
    created_at: float
    #: Whether the request's key had made this job before.
    is_replay: bool


@dataclass(frozen=True, slots=True)
class Job:
    """A job as Redis holds it. Times are seconds since the epoch, by Redis's clock.

    Words that a newer version may extend (status, priority, reason) are plain strings: a reader shows what it does
    not know.
    """

    id: str
    endpoint: str
    model: str
    owner: str
    #: Choices, over all prompts.
    n: int
    priority: str
    on_disconnect: str
    metadata: dict[str, str]
    status: str
    created_at: float
    fence: int
    attempts: int
    deaths: int
    #: Per choice, units released.
    end: tuple[int, ...]
    used: Usage = Usage()
    #: The request and the resolved request as they are stored; None: not read.
    raw_request: str | None = None
    raw_resolved: str | None = None
    view: Mapping[str, Any] = field(default_factory=dict)
    #: How often it made room for a high job.
    num_preemptions: int = 0
    #: How often it paused because nobody read it.
    num_pauses: int = 0
    is_paused: bool = False
    claim_token: str | None = None
    #: The name of the worker that has the job, or had it last.
    worker: str | None = None
    reason: str | None = None
    started_at: float | None = None
    completed_at: float | None = None
    expires_after_s: float | None = None
    cancel_after_s: float | None = None
    retry_of: str | None = None
    #: Why it failed.
    error: ErrorInfo | None = None

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL_STATUSES

    @property
    def request(self) -> GenerationRequest:
        """Raises DecodeError."""
        if self.raw_request is None:
            raise DecodeError("request", None)
        return GenerationRequest.decode(self.raw_request)

    @classmethod
    def decode(
        cls,
        fields: Mapping[str, str],
        end: tuple[int, ...],
        used: Usage = Usage(),
        error: ErrorInfo | None = None,
    ) -> Job:
        """Read the hash `job:<id>`, with those fields of `job:<id>:request` that the caller has read; `end`, `used`
        and `error` are its stream's last entry's. Raises DecodeError."""
        try:
            return cls(
                id=fields["id"],
                endpoint=fields["endpoint"],
                model=fields["model"],
                owner=fields["owner"],
                n=int(fields["n"]),
                priority=fields["priority"],
                on_disconnect=fields["on_disconnect"],
                metadata=json.loads(fields.get("metadata", "{}")),
                status=fields["status"],
                created_at=int(fields["created_ms"]) / 1000,
                fence=int(fields["fence"]),
                attempts=int(fields["attempts"]),
                deaths=int(fields["deaths"]),
                end=end,
                used=used,
                raw_request=fields.get("request"),
                raw_resolved=fields.get("resolved"),
                view=json.loads(fields.get("view", "{}")),
                num_preemptions=int(fields.get("num_preemptions", 0)),
                num_pauses=int(fields.get("num_pauses", 0)),
                is_paused=bool(fields.get("paused_ms")),
                claim_token=fields.get("claim_token") or None,
                worker=fields.get("worker"),
                reason=fields.get("reason") or None,
                started_at=_seconds(fields.get("started_ms")),
                completed_at=_seconds(fields.get("completed_ms")),
                expires_after_s=_seconds(fields.get("expires_after_ms")),
                cancel_after_s=_seconds(fields.get("cancel_after_ms")),
                retry_of=fields.get("retry_of"),
                error=error,
            )
        except (ValueError, KeyError, TypeError) as cause:
            raise DecodeError("job", dict(fields)) from cause


def _seconds(milliseconds: str | None) -> float | None:
    return None if milliseconds is None else int(milliseconds) / 1000


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
